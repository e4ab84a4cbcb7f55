"""Numbers of one run (one seed of a cell), computed from its result files.

    accuracy          a protocol's test accuracy, of one architecture of its transfer table if named
    baseline          the same of as many real images
    accuracy_at       test accuracy of the snapshot at a share of the step budget
    steps_to          first step whose validation accuracy reaches the end of another column's
    selection_seconds time that choosing the initial images took
    step_seconds      median seconds of one step, first chunk (compilation) left out
    distill_seconds   seconds of distilling
    cpu_seconds       processor seconds of distilling, all cores
    value             a number in a JSON file that another command wrote

Everything tolerates gaps: what is not there is None.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.config import group_choices, within
from distill_cli.core.files import read_json
from distill_cli.errors import UserError, choice_error
from distill_cli.naming import coreset_label
from distill_cli.report.json_values import number, section
from distill_cli.report.parse import parse_result
from distill_cli.report.results import read_metrics
from distill_cli.report.run_result import Evaluation, RunResult

PERCENT = ("accuracy", "baseline", "accuracy_at")
SECONDS = ("selection_seconds", "step_seconds", "distill_seconds", "cpu_seconds")


@dataclass(frozen=True)
class MetricSpec:
    """A metric of a table's file.

    protocol, architecture: of accuracy, baseline and accuracy_at; share: of the step budget;
    reference: column of steps_to; files: JSON of value, the first there is, relative to the folder
    of results, the working folder or the repository; where: keys that choose among its rows, key:
    the number.
    """

    kind: str = "accuracy"
    title: str = ""
    protocol: str = ""
    architecture: str = ""
    share: float = 1.0
    reference: str = ""
    files: tuple[str, ...] = ()
    where: dict[str, Any] = field(default_factory=dict)
    key: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise choice_error("metrics.kind", self.kind, KINDS)
        within("metrics.share", self.share, 0, 1)
        needs = {"steps_to": "reference", "value": "key"} | dict.fromkeys(PERCENT, "protocol")
        if self.protocol and self.protocol not in group_choices("evaluation"):
            raise choice_error("metrics.protocol", self.protocol, group_choices("evaluation"))
        if self.kind in needs and not getattr(self, needs[self.kind]):
            raise UserError(f"metrics.{needs[self.kind]}: missing; kind={self.kind} needs it")

    @property
    def name(self) -> str:
        """Heading of the metric's column."""
        if self.title:
            return self.title
        if self.kind == "accuracy_at":
            return f"at {self.share:.0%}"
        return {"accuracy": self.protocol, "baseline": "real images", "value": self.key}.get(
            self.kind, self.kind.replace("_", " ")
        )

    @property
    def images(self) -> str:
        """What the metric's accuracies are of."""
        return "held-out training images" if self.protocol == "held_out" else "test data"

    @property
    def unit(self) -> str:
        """percent, seconds, steps, or nothing."""
        if self.kind in PERCENT:
            return "percent"
        return "seconds" if self.kind in SECONDS else "steps" if self.kind == "steps_to" else ""


@dataclass(frozen=True)
class RunFiles:
    """What one seed of a cell left: its folder, result.json, where evaluations lie, the same
    seed of the columns that a metric refers to, and the row that another command wrote."""

    folder: Path
    result: RunResult
    out: Path
    others: Mapping[str, "RunFiles"] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)


def value_of(spec: MetricSpec, run: RunFiles) -> float | None:
    """The metric's number: accuracies in percent, times in seconds."""
    return KINDS[spec.kind](spec, run)


def hundredfold(share: float | None) -> float | None:
    """A share as percent."""
    return None if share is None else 100 * share


def _accuracy(spec: MetricSpec, run: RunFiles) -> float | None:
    return _of_row(spec, run.result.of_protocol(spec.protocol))


def _of_row(spec: MetricSpec, row: Evaluation | None) -> float | None:
    if row is None:
        return None
    named = spec.architecture
    return hundredfold(row.of_architecture(named) if named else row.accuracy)


def _baseline(spec: MetricSpec, run: RunFiles) -> float | None:
    row = run.result.of_protocol(spec.protocol)
    return None if row is None else hundredfold(row.real.accuracy)


def snapshot(spec: MetricSpec, run: RunFiles) -> Path | None:
    """The coreset file that accuracy_at measures; None where the run has not written it."""
    steps = number(run.result.option("steps"))  # most that the run was allowed
    if steps is None:
        return None
    path = run.folder / "coreset" / "steps" / f"{round(spec.share * steps):06d}.npz"
    return path if path.is_file() else None


def evaluation_file(run: RunFiles, coreset: Path) -> Path:
    """Where distill-evaluate writes what it measures of a coreset file."""
    label = coreset_label(str(coreset))
    return run.out / "evaluate" / run.result.dataset / label / "evaluation.json"


def _accuracy_at(spec: MetricSpec, run: RunFiles) -> float | None:
    path = snapshot(spec, run)
    found = None if path is None else read_json(evaluation_file(run, path))
    if not isinstance(found, dict):
        return None
    return _of_row(spec, parse_result(found).of_protocol(spec.protocol))


def validation_series(folder: Path) -> list[tuple[int, float]]:
    """(step, validation accuracy) in the order of steps."""
    rows = read_metrics(folder)
    return [(round(r["step"]), r["valid_accuracy"]) for r in rows if "valid_accuracy" in r]


def _steps_to(spec: MetricSpec, run: RunFiles) -> float | None:
    other = run.others.get(spec.reference)
    goal = validation_series(other.folder) if other else []
    if not goal:
        return None
    reached = (step for step, score in validation_series(run.folder) if score >= goal[-1][1])
    return next(map(float, reached), None)


def _selection_seconds(spec: MetricSpec, run: RunFiles) -> float | None:
    del spec
    return run.result.seconds.get("selection")


def _step_seconds(spec: MetricSpec, run: RunFiles) -> float | None:
    del spec
    rates = [r["steps_per_second"] for r in read_metrics(run.folder) if r.get("steps_per_second")]
    return 1 / statistics.median(rates[1:]) if len(rates) > 1 else None


def _distill_seconds(spec: MetricSpec, run: RunFiles) -> float | None:
    del spec
    return run.result.seconds.get("distill")


def _cpu_seconds(spec: MetricSpec, run: RunFiles) -> float | None:
    del spec
    return run.result.cpu_seconds


def _value(spec: MetricSpec, run: RunFiles) -> float | None:
    return number(run.row.get(spec.key))


def rows_of_file(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON file: a list of them, itself, or what stands under "cells" or "rows"."""
    found = read_json(path)
    if isinstance(found, dict):
        rows = found.get("cells", found.get("rows"))
        found = rows if isinstance(rows, list) else [found]
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def chosen_row(spec: MetricSpec, path: Path, seed: int) -> dict[str, Any] | None:
    """The row with the values of `where` and this seed, numbers of the seed as plain keys.

    A row is of one seed ("seed"), or of several ("seeds") with {"metrics": {key: {"values"}}}.
    """
    whole = read_json(path)
    whole = whole if isinstance(whole, dict) else {}
    about = {key: whole[key] for key in ("device", "version") if key in whole}
    for row in rows_of_file(path):
        if not all(row.get(key) == value for key, value in spec.where.items()):
            continue
        if isinstance(metrics := row.get("metrics"), dict):
            if seed not in row.get("seeds", []):
                continue
            at = row["seeds"].index(seed)
            lists = {key: section(metrics, key).get("values") or [] for key in metrics}
            return about | {key: found[at] for key, found in lists.items() if at < len(found)}
        if row.get("seed", seed) in (seed, None):
            return about | row
    return None


KINDS: dict[str, Callable[[MetricSpec, RunFiles], float | None]] = {
    "accuracy": _accuracy,
    "baseline": _baseline,
    "accuracy_at": _accuracy_at,
    "steps_to": _steps_to,
    "selection_seconds": _selection_seconds,
    "step_seconds": _step_seconds,
    "distill_seconds": _distill_seconds,
    "cpu_seconds": _cpu_seconds,
    "value": _value,
}
