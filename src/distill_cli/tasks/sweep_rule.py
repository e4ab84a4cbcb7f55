"""Stopping bad trials of a sweep: the median rule over the validation scores of all its jobs.

Hydra's Optuna plugin has no pruning: a job does not see its trial. Here the loop itself compares,
through the sink that gets every validation score.
"""

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_cli.config import Config, TuningConfig
from distill_cli.report.results import read_metrics
from distill_cli.tasks.sweep import TrialPruned, read_rows
from distill_cli.tasks.sweep_stop import VARIABLE


@dataclass
class MedianRule:
    """Raises TrialPruned at a validation where this run's score so far is below the median of the
    others' scores by the same step.

    A score is the validation accuracy of the coreset that would be kept (`score_at`). folder: of
    this run; sweep: of the sweep; steps: the run's budget; keep: validation.keep. Others count that
    got to the step, or that are over. With several jobs at once, what they have depends on time.
    """

    folder: Path
    sweep: Path
    tuning: TuningConfig
    steps: int
    keep: str = "best"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Looks at lines with a validation accuracy only; the line is in metrics.jsonl by now."""
        if "valid_accuracy" not in values:
            return
        if step < self.tuning.warmup * self.steps or step >= self.steps:
            return
        own = score_at(read_metrics(self.folder), step, self.keep)
        others = self.others(step)
        if own is None or len(others) < self.tuning.startup:
            return
        median = statistics.median(others)
        if own < median:
            raise TrialPruned(
                f"pruned at step {step}: validation accuracy {own:.4f} is below the median "
                f"{median:.4f} of {len(others)} other trials",
                own,
            )

    def others(self, step: int) -> list[float]:
        """The score by `step` of every other run of the sweep that got there or is over."""
        found = {}
        for row in read_rows(self.sweep):
            folder = Path(row["folder"])
            if folder == self.folder.absolute() or row["status"] == "failed":
                continue
            rows = read_metrics(folder)
            score = score_at(rows, step, self.keep)
            if score is not None and (rows[-1]["step"] >= step or row["status"] == "done"):
                found[folder] = score
        return list(found.values())

    def close(self) -> None:
        """Nothing is open."""


def score_at(rows: Sequence[Mapping[str, float]], step: int, keep: str) -> float | None:
    """Validation accuracy of the coreset that a run would keep at a step: that with the smallest
    validation loss (keep=best), or the last. None before the first validation."""
    seen = [row for row in rows if row["step"] <= step and "valid_accuracy" in row]
    if not seen:
        return None
    kept = (
        seen[-1] if keep == "last" else min(seen, key=lambda row: row.get("valid_loss", math.inf))
    )
    return kept["valid_accuracy"]


def median_rule(folder: Path, config: Config) -> MedianRule | None:
    """The rule of a job of a sweep with tuning.prune=median; None otherwise."""
    place = os.environ.get(VARIABLE)
    if not place or config.tuning.prune == "none":
        return None
    return MedianRule(folder, Path(place), config.tuning, config.steps, config.validation.keep)
