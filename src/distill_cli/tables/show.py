"""A measured table as text: ours beside the published, with seeds, cost and commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_cli.report.published import source_titles
from distill_cli.report.words import MINUS, NONE, duration
from distill_cli.tables.measured import Measurement, Number
from distill_cli.tables.metrics import MetricSpec
from distill_cli.tables.reference import published_of
from distill_cli.tables.spec import Cell, Table, Time
from distill_cli.version import __version__

NOT_FOUND = "not found"


@dataclass(frozen=True)
class Page:
    """A table ready to be written: title, heading, rows of text, notes below, commands last.

    records: the same rows with plain numbers, for CSV.
    """

    title: str
    about: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    records: tuple[Mapping[str, Any], ...]


def text_of(number: Number | None, metric: MetricSpec) -> str:
    """ "96.70 ± 0.21 (3)": mean, standard deviation over seeds, their number; a dash without."""
    if number is None:
        return NONE
    if metric.unit == "seconds":
        return f"{duration(number.mean)} ({number.n})"
    digits = {"percent": 2, "steps": 0}.get(metric.unit, 4)
    spread = "" if number.std is None else f" ± {number.std:.{digits}f}"
    return f"{number.mean:.{digits}f}{spread} ({number.n})"


def published_text(table: Table, cell: Cell) -> str:
    """The published figure, "not found", or a dash where the cell has no published counterpart."""
    if not cell.published:
        return NONE
    found = published_of(table, cell)
    return NOT_FOUND if found is None else found.text()


def difference(table: Table, measurement: Measurement) -> str:
    """Ours minus published, in the metric's unit."""
    found, ours = published_of(table, measurement.cell), measurement.main
    if found is None or ours is None:
        return NONE
    return f"{ours.mean - found.mean:+.2f}".replace("-", MINUS)


def state_text(measurement: Measurement) -> str:
    """What is not there yet, or not as it should be; empty where all is well."""
    cell = measurement.cell
    if cell.not_runnable:
        return "not runnable"
    open_runs = [run for run in measurement.runs if run.state != "done"]
    states = [f"seed {run.seed} {run.state}" for run in open_runs]
    if len(open_runs) == len(measurement.runs) and len({run.state for run in open_runs}) == 1:
        states = [open_runs[0].state]
    states += [f"version {version}" for version in measurement.other_versions]
    return ", ".join(states)


def time_text(time: Time | None) -> str:
    """ "2 min 5 s (measured, cpu (2 cores))"."""
    return NONE if time is None else f"{duration(time.seconds)} ({time.how}, {time.device})"


def page(
    table: Table, measurements: Sequence[Measurement], more: Sequence[str] = (),
    unusable: Sequence[str] = (),
) -> Page:  # fmt: skip
    """The page of a table; more: overrides that were added to every command."""
    metrics = list(dict.fromkeys(m.name for c in table.cells for m in c.metrics))
    any_published = any(cell.published for cell in table.cells)
    head = ["cell", *metrics]
    if any_published:
        head[2:2] = ["published", "ours − published"]
    head += ["time a seed", "peak memory", "state"]
    rows = [line(table, found, metrics, any_published, bool(more)) for found in measurements]
    return Page(
        table.spec.title, table.spec.about.strip(), tuple(head), tuple(rows),
        tuple(notes(table, measurements, more, unusable)),
        tuple((m.cell.name, shown_command(m.cell, more)) for m in measurements),
        tuple(record(table, found, more) for found in measurements),
    )  # fmt: skip


def shown_command(cell: Cell, more: Sequence[str]) -> str:
    """The command of all seeds as it is typed, or why there is none."""
    if not cell.command:
        return f"none: {cell.not_runnable}"
    if len(cell.seeds) == 1 or not cell.seeded:
        return cell.command_line(cell.seeds[0], more)
    if cell.sweeps:
        line = cell.command_line(",".join(map(str, cell.seeds)), more)
        return line.replace("distill ", "distill -m ", 1)
    line = cell.command_line("SEED", more).replace("SEED", "$seed")  # after quoting
    return f"for seed in {' '.join(map(str, cell.seeds))}; do {line}; done"


def line(
    table: Table, found: Measurement, metrics: Sequence[str], published: bool, reduced: bool
) -> tuple[str, ...]:
    """One row of the page."""
    cell = found.cell
    own = {m.name: text_of(n, m) for m, n in zip(cell.metrics, found.numbers, strict=True)}
    values = [own.get(name, NONE) for name in metrics]
    if published:
        away = NONE if reduced else difference(table, found)
        values[1:1] = [published_text(table, cell), away]
    memory = NONE if found.memory_mb is None else f"{found.memory_mb:,.0f} MB"
    time = duration(found.seconds)
    if found.seconds is None and cell.time is not None:
        time = f"[{time_text(cell.time)}]"
    return (cell.name, *values, time, memory, state_text(found) or "done")


def notes(
    table: Table, measurements: Sequence[Measurement], more: Sequence[str], unusable: Sequence[str]
) -> list[str]:
    """Sources, what the columns mean, devices, versions, reductions, skipped folders."""
    spec = table.spec
    images = dict.fromkeys(m.images for c in table.cells for m in c.metrics if m.unit == "percent")
    found = [
        "Mean ± standard deviation over seeds (their number); accuracies in %, on "
        f"{' and '.join(images or ('test data',))}."
    ]
    found += [f"Published: {title}." for title in source_titles(spec.source)]
    lacking = [c for c in table.cells if c.published and published_of(table, c) is None]
    if lacking:
        why = f": {spec.not_found}" if spec.not_found else ""
        found.append(f"{len(lacking)} published figures were not found{why}.")
    if more:
        changed = " ".join(more)
        found.append(f"With {changed} in every command: NOT the published setting.")
    devices = list(dict.fromkeys(d for m in measurements for d in m.devices))
    if devices:
        found.append(f"Measured on {', '.join(devices)}; times include everything but the queue.")
    if any(m.seconds is None and m.cell.time for m in measurements):
        found.append("Times in brackets are expectations for one seed.")
    versions = list(dict.fromkeys(v for m in measurements for v in m.other_versions))
    if versions:
        found.append(f"Runs of version {', '.join(versions)}, but this program is {__version__}.")
    columns = {c.column: c.note for c in table.cells if c.note}
    found += [f"{name}: {note.strip()}" for name, note in columns.items()]
    found += [f"Passed over: {text}." for text in unusable]
    return found


def record(table: Table, found: Measurement, more: Sequence[str]) -> dict[str, Any]:
    """A row with plain numbers: every metric's mean, std, n; the published figure; cost."""
    cell, values = found.cell, {}
    for metric, number in zip(cell.metrics, found.numbers, strict=True):
        key = metric.name.replace(" ", "_")
        values[f"{key}_mean"] = None if number is None else number.mean
        values[f"{key}_std"] = None if number is None else number.std
        values[f"{key}_n"] = 0 if number is None else number.n
    figure = published_of(table, cell)
    return {
        "table": table.name, "cell": cell.name, "row": cell.row, "column": cell.column, **values,
        "published_mean": figure and figure.mean, "published_spread": figure and figure.spread,
        "published_source": figure and figure.source,
        "seeds": " ".join(str(run.seed) for run in found.done),
        "seconds": found.seconds, "peak_memory_mb": found.memory_mb,
        "device": "; ".join(found.devices),
        "version": "; ".join(found.versions),
        "state": state_text(found) or "done", "command": shown_command(cell, more),
    }  # fmt: skip
