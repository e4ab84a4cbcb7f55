"""Stopping bad trials of a sweep: the median rule over the validation scores of all its jobs.

Hydra's Optuna plugin has no pruning: a job does not see its trial. Here the loop itself compares,
through the sink that gets every validation score.
"""

import math
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distill_cli.config import Config, TuningConfig
from distill_cli.tables.metrics import validation_series
from distill_cli.tasks.sweep import VARIABLE, TrialPruned, read_rows


@dataclass
class MedianRule:
    """Raises TrialPruned at a validation where the best accuracy of this run so far is below the
    median of the others' best accuracies by the same step.

    folder: of this run; sweep: of the sweep; steps: the run's budget. Others count that got to the
    step, or that are over. With several jobs at once, what the others have depends on time.
    """

    folder: Path
    sweep: Path
    tuning: TuningConfig
    steps: int
    best: float = field(default=-math.inf)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Looks at lines with a validation accuracy only."""
        if "valid_accuracy" not in values:
            return
        self.best = max(self.best, values["valid_accuracy"])
        if step < self.tuning.warmup * self.steps or step >= self.steps:
            return
        others = self.others(step)
        if len(others) < self.tuning.startup:
            return
        median = statistics.median(others)
        if self.best < median:
            raise TrialPruned(
                f"pruned at step {step}: validation accuracy {self.best:.4f} is below the median "
                f"{median:.4f} of {len(others)} other trials",
                self.best,
            )

    def others(self, step: int) -> list[float]:
        """The best score by `step` of every other run of the sweep that got there or is over."""
        found = {}
        for row in read_rows(self.sweep):
            folder = Path(row["folder"])
            if folder == self.folder.absolute() or row["status"] == "failed":
                continue
            series = validation_series(folder)
            scores = [score for at, score in series if at <= step]
            if scores and (series[-1][0] >= step or row["status"] == "done"):
                found[folder] = max(scores)
        return list(found.values())

    def close(self) -> None:
        """Nothing is open."""


def median_rule(folder: Path, config: Config) -> MedianRule | None:
    """The rule of a job of a sweep with tuning.prune=median; None otherwise."""
    place = os.environ.get(VARIABLE)
    if not place or config.tuning.prune == "none":
        return None
    return MedianRule(folder, Path(place), config.tuning, config.steps)
