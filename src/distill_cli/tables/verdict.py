"""Pass or fail of a cell against its reference, by an interval that is written out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill_cli.tables.measured import Measurement, Number
from distill_cli.tables.reference import Reference

FAILING = ("fail", "missing", "no record")


@dataclass(frozen=True)
class Verdict:
    """status: pass, fail, missing (not all runs are there), no record (a record was asked for and
    the registry has none), not found (nothing published to compare with)."""

    cell: str
    status: str
    reason: str

    @property
    def failed(self) -> bool:
        return self.status in FAILING


def interval(
    reference: Reference, ours: Number, tolerance: float, absolute: bool
) -> tuple[float, float]:
    """The interval that a mean has to lie in; error is its standard error.

    published: mean +- (max(2 spread, tolerance) + 2 error). The kind of spread is seldom stated in
    papers, hence it is taken as a deviation of single runs.
    recorded: mean +- (tolerance + k sqrt(std^2/n + error^2)), two means of runs of one program:
    k = 3 for other seeds, 1 for the same, where only another machine's rounding differs.
    absolute: tolerance is in the metric's own unit
    (percentage points); otherwise it is a percentage of the reference.
    """
    least = tolerance if absolute else abs(reference.mean) * tolerance / 100
    error = ours.standard_error
    if reference.kind == "published":
        half = max(2 * (reference.std or 0.0), least) + 2 * error
    else:
        own = (reference.std or 0.0) / math.sqrt(reference.n or 1)
        half = least + (1 if reference.seeds == ours.seeds else 3) * math.hypot(own, error)
    return reference.mean - half, reference.mean + half


def judge(
    measurement: Measurement,
    reference: Reference | None,
    tolerance: float,
    against: str = "auto",
) -> Verdict:
    """The verdict on a cell's first metric."""
    cell, found = measurement.cell, measurement.main
    if found is None or found.n < len(measurement.runs):
        have = 0 if found is None else found.n
        states = ", ".join(f"seed {r.seed} {r.state}" for r in measurement.runs if not r.files)
        why = f"{have} of {len(measurement.runs)} seeds measured"
        return Verdict(cell.name, "missing", f"{why} ({cell.not_runnable or states})")
    if reference is None:
        if against == "recorded":
            return Verdict(cell.name, "no record", "the registry has no entry for this cell")
        return Verdict(cell.name, "not found", "no published figure and no record to compare with")
    absolute = cell.metrics[0].unit == "percent"
    low, high = interval(reference, found, tolerance, absolute)
    inside = low <= found.mean <= high
    side = "" if inside else (" (below)" if found.mean < low else " (above)")
    text = f"{found.mean:.2f} in [{low:.2f}, {high:.2f}]" if inside else (
        f"{found.mean:.2f} not in [{low:.2f}, {high:.2f}]{side}"
    )  # fmt: skip
    versions = measurement.other_versions
    note = f"; measured with version {', '.join(versions)}" if versions else ""
    return Verdict(cell.name, "pass" if inside else "fail", f"{text}, {reference.kind}{note}")


def tally(verdicts: Sequence[Verdict]) -> str:
    """ "5 pass, 1 fail" in the order of severity."""
    order = ("fail", "no record", "missing", "not found", "pass")
    counts = {status: sum(v.status == status for v in verdicts) for status in order}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no cells"
