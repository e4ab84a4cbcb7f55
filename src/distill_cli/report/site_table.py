"""The table of a site (site.html): one row for each evaluation of each run, with filters."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distill_cli.report import words
from distill_cli.report.collect import Run
from distill_cli.report.compare import Comparison, Measurement
from distill_cli.report.json_values import number
from distill_cli.report.run_result import Evaluation


class Column(NamedTuple):
    """key: its name in the page's script; numeric: sorted as numbers; choice: has a filter."""

    key: str
    title: str
    numeric: bool = False
    choice: bool = False


COLUMNS = (
    Column("method", "Method", choice=True),
    Column("dataset", "Data set", choice=True),
    Column("ipc", "IPC", numeric=True, choice=True),
    Column("labels", "Labels", choice=True),
    Column("seed", "Seed", numeric=True, choice=True),
    Column("init", "Init", choice=True),
    Column("sampler", "Sampler", choice=True),
    Column("protocol", "Protocol", choice=True),
    Column("accuracy", "Accuracy", numeric=True),
    Column("random", "Random real", numeric=True),
    Column("gain", "Gain", numeric=True),
    Column("published", "Published", numeric=True),
    Column("seconds", "Distilling", numeric=True),
    Column("memory", "Memory", numeric=True),
    Column("version", "Version", choice=True),
)
Values = dict[str, tuple[object, str]]  # key -> (what is sorted by, what is shown)


def values(run: Run, row: Measurement | None) -> Values:
    """A row of the table. row: None for a run that was not evaluated."""
    result = run.result
    measured, known = (row.row, row.known) if row else (Evaluation(), None)
    before, seconds, memory = measured.real, result.seconds.get("distill"), result.peak_memory

    def word(value: object) -> tuple[object, str]:
        return (None, words.NONE) if value is None or value == "" else (value, str(value))

    return {
        "method": word(words.run_maker(result)),
        "dataset": word(words.dataset_title(words.data_of(result))),
        "ipc": word(result.ipc),
        "labels": word(result.labels),
        "seed": word(result.seed),
        "init": word(result.init),
        "sampler": word(result.option("sampler", "name")),
        "protocol": word(measured.protocol),
        "accuracy": (measured.accuracy, words.percent(measured.accuracy, measured.std)),
        "random": (before.accuracy, words.percent(before.accuracy, before.std)),
        "gain": (measured.gain, words.points(measured.gain, measured.clear_gain)),
        "published": (known and known.mean, known.text() if known else words.NONE),
        "seconds": (seconds, words.duration(seconds)),
        "memory": (memory, words.megabytes(memory)),
        "version": word(result.version),
    }


class Cell(NamedTuple):
    """What is sorted by, what is shown, and whether it is a clear gain."""

    column: Column
    sort: str
    text: str
    gained: bool


class Row(NamedTuple):
    """run: its number."""

    run: int
    cells: list[Cell]


class Table(NamedTuple):
    """filters: a column and what can be chosen in it."""

    columns: list[Column]
    rows: list[Row]
    filters: list[tuple[Column, list[str]]]


def table(site: Comparison) -> Table:
    """A row for each evaluation, and for each run without any; only columns that have values."""
    lines: list[tuple[int, Values]] = []
    for i, run in enumerate(site.runs):
        rows: list[Measurement | None] = [m for m in site.found if m.run == i]
        lines += [(i, values(run, row)) for row in rows or [None]]
    columns = [c for c in COLUMNS if any(line[c.key][0] is not None for _, line in lines)]
    made = [Row(run, [cell(c, *line[c.key]) for c in columns]) for run, line in lines]
    return Table(columns, made, filters(columns, [line for _, line in lines]))


def cell(column: Column, key: object, text: str) -> Cell:
    """One cell; numbers are sorted by more digits than are shown."""
    sort = "" if key is None else f"{key:.10g}" if isinstance(key, float) else str(key)
    gained = column.key == "gain" and isinstance(key, float) and key > 0 and text[0] != "("
    return Cell(column, sort, text, gained)


def filters(columns: Sequence[Column], lines: Sequence[Values]) -> list[tuple[Column, list[str]]]:
    """The choices of each column that has several values."""
    made = []
    for c in columns:
        found = {line[c.key][1]: line[c.key][0] for line in lines}
        if c.choice and len(found) > 1:
            numeric = c.numeric and all(number(v) is not None for v in found.values())
            order = sorted(found, key=lambda text: (float(text), "") if numeric else (0.0, text))
            made.append((c, order))
    return made


def place(run: Run, out: Path) -> str:
    """The run's folder as a relative link from the folder of the page."""
    path = Path(os.path.relpath(run.folder, out)).as_posix()
    return path.replace("#", "%23").replace("?", "%3F")
