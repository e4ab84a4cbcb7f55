"""A cell's measurement: every metric over its seeds, with spread, time, memory and versions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from distill_cli.core.stats import mean_std
from distill_cli.report.run_result import RunResult
from distill_cli.tables.metrics import RunFiles, value_of
from distill_cli.tables.runs import SeedRun
from distill_cli.tables.spec import Cell, Table


class Number(NamedTuple):
    """Mean and standard deviation (n - 1; None for one) over the seeds that have a value."""

    mean: float
    std: float | None
    seeds: tuple[int, ...]

    @property
    def n(self) -> int:
        return len(self.seeds)

    @property
    def standard_error(self) -> float:
        """std / sqrt(n); 0 where there is no spread."""
        return 0.0 if self.std is None else self.std / math.sqrt(self.n)


def number_of(values: Sequence[tuple[int, float]]) -> Number | None:
    """Mean and spread of (seed, value) pairs, in float64; None without any."""
    if not values:
        return None
    mean, std, _ = mean_std(value for _, value in values)
    return Number(mean, std, tuple(seed for seed, _ in values))


@dataclass(frozen=True)
class Measurement:
    """A cell with its runs. numbers: one per metric of the cell, None where nothing was measured.

    seconds: mean of a seed's whole time; memory_mb: largest peak over the seeds, of the device
    where it says, else of the host.
    """

    cell: Cell
    runs: tuple[SeedRun, ...]
    numbers: tuple[Number | None, ...]

    @property
    def main(self) -> Number | None:
        """The first metric, which is compared."""
        return self.numbers[0]

    @property
    def done(self) -> list[SeedRun]:
        return [run for run in self.runs if run.state == "done"]

    @property
    def seconds(self) -> float | None:
        times = [result.seconds.get("total") for result in self.results]
        known = [total for total in times if total is not None]
        return sum(known) / len(known) if known else None

    @property
    def memory_mb(self) -> float | None:
        peaks = [result.peak_memory for result in self.results]
        return max((peak for peak in peaks if peak is not None), default=None)

    @property
    def results(self) -> list[RunResult]:
        """What the seeds that are done left."""
        return [run.files.result for run in self.done if run.files]

    @property
    def devices(self) -> list[str]:
        """Each device that measured once."""
        return list(dict.fromkeys(result.device for result in self.results if result.device))

    @property
    def versions(self) -> list[str]:
        """Each version of this program that measured once."""
        return list(dict.fromkeys(result.version for result in self.results if result.version))

    @property
    def other_versions(self) -> list[str]:
        """Versions of this program that measured and are not the present one."""
        return list(dict.fromkeys(str(run.version) for run in self.done if run.other_version))


Find = Callable[[Cell, int], SeedRun]


def measure_table(table: Table, find: Find, whole: Table | None = None) -> list[Measurement]:
    """Every cell of a table. find(cell, seed) gives the run; each is looked up once.

    whole: the table before cells were selected, whose other columns metrics may refer to.
    """
    known: dict[tuple[str, int], SeedRun] = {}

    def run_of(cell: Cell, seed: int) -> SeedRun:
        if (cell.name, seed) not in known:
            known[cell.name, seed] = find(cell, seed)
        return known[cell.name, seed]

    names = {cell.name: cell for cell in (whole or table).cells}
    return [measure_cell(cell, names, run_of) for cell in table.cells]


def measure_cell(cell: Cell, names: dict[str, Cell], run_of: Find) -> Measurement:
    """One cell; its metrics may refer to another column of the same row."""
    runs = tuple(run_of(cell, seed) for seed in cell.own_seeds)
    values: list[list[tuple[int, float]]] = [[] for _ in cell.metrics]
    for run in runs:
        if run.files is None:
            continue
        files = replace(run.files, others=neighbours(cell, run.seed, names, run_of))
        for index, metric in enumerate(cell.metrics):
            value = value_of(metric, files)
            if value is not None:
                values[index].append((run.seed, value))
    return Measurement(cell, runs, tuple(number_of(found) for found in values))


def neighbours(
    cell: Cell, seed: int, names: dict[str, Cell], run_of: Find
) -> dict[str, RunFiles]:  # fmt: skip
    """The columns of the same row that a metric refers to, where they are finished."""
    found = {}
    for metric in cell.metrics:
        other = names.get(f"{cell.row}/{metric.reference}" if cell.row else metric.reference)
        if metric.reference and other is not None:
            files = run_of(other, seed).files
            if files is not None:
                found[metric.reference] = files
    return found
