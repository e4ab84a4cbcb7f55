"""A table as its YAML file describes it: axes that span rows, columns, commands, metrics.

A cell is one row and one column; its name is both joined by "/", e.g. cifar10/ipc1/rfad_fixed. Its
command is a template filled with the row's and the column's values and with the seed. Imports no
jax and no Hydra.
"""

import fnmatch
import itertools
import shlex
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from distill_cli.config import config_dir, group_choices
from distill_cli.errors import UserError, choice_error
from distill_cli.tables.metrics import MetricSpec
from distill_cli.typed import build

PROGRAMS = ("distill", "distill-theory", "distill-apply")
LISTED = 40  # cells named one by one in an error; a larger table is described by its parts


@dataclass(frozen=True)
class Time:
    """Seconds of one seed of a cell on a named device; how: measured or estimated."""

    seconds: float
    device: str
    how: str = "measured"

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UserError(f"time.seconds={self.seconds}: must be above 0")
        if self.how not in ("measured", "estimated"):
            raise choice_error("time.how", self.how, ("measured", "estimated"))


@dataclass(frozen=True)
class Rows:
    """axes: name -> values, every combination is a row; without: patterns of rows left out."""

    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One column. What is empty is taken from the table.

    values: further names for the templates; published: what the figure is looked up by in
    published.json, {} for none; rows: patterns of the rows that the column has; note: what a
    reader has to know; not_runnable: why there is no command, where there is none.
    """

    title: str = ""
    command: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[Any, ...] = ()
    published: dict[str, Any] = field(default_factory=dict)
    rows: tuple[str, ...] = ("*",)
    time: Time | None = None
    note: str = ""
    not_runnable: str = ""


@dataclass(frozen=True)
class Figure:
    """A table drawn: x is an axis of the rows; every column (and every other row axis) a line."""

    x: str
    metric: str
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Spec:
    """A table's file. See docs/tables.md.

    source: ids of published.json; not_found: why cells have no published figure; values_by: axis ->
    value of the axis -> further names for the templates; times, not_runnable: pattern of cells ->
    Time, or why no command is there; shares: of the value `steps`, as steps in {snapshots};
    tolerance: percentage points (percent, of other units) that every interval has at least.
    """

    title: str
    about: str = ""
    source: tuple[str, ...] = ()
    not_found: str = ""
    command: str = ""
    seeds: tuple[int, ...] = (0,)
    rows: Rows = field(default_factory=Rows)
    columns: dict[str, Column] = field(default_factory=dict)
    metrics: tuple[Any, ...] = ()
    values_by: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    times: dict[str, Time] = field(default_factory=dict)
    tolerance: float = 0.5
    not_runnable: dict[str, str] = field(default_factory=dict)
    shares: tuple[float, ...] = ()
    figure: Figure | None = None

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds={list(self.seeds)}: must be one or more different numbers >= 0")
        if not self.columns:
            raise UserError("columns: missing; a table has at least one")


@dataclass(frozen=True)
class Cell:
    """One cell: how to run it and what of it is shown. command has {seed} left open."""

    row: str
    column: str
    values: dict[str, Any]
    command: str
    metrics: tuple[MetricSpec, ...]
    seeds: tuple[int, ...]
    published: dict[str, Any]
    time: Time | None
    note: str
    not_runnable: str

    @property
    def name(self) -> str:
        return f"{self.row}/{self.column}" if self.row else self.column

    def argv(self, seed: int | str, more: Iterable[str] = ()) -> list[str]:
        """The words of the command for a seed; `more` overrides come last."""
        return [*shlex.split(fill(self.command, {"seed": seed}, self.name)), *more]

    def command_line(self, seed: int | str, more: Iterable[str] = ()) -> str:
        """The command as it is typed."""
        return shlex.join(self.argv(seed, more))

    @property
    def seeded(self) -> bool:
        """Whether the command depends on the seed; otherwise it is one run with all of them."""
        return "{seed}" in self.command

    @property
    def own_seeds(self) -> tuple[int, ...]:
        """Seeds that are runs of their own: one of a `distill` command that does not name them.
        Other commands may measure all of them in one file."""
        one = self.command.startswith("distill ") and not self.seeded
        return self.seeds[:1] if one else self.seeds

    @property
    def sweeps(self) -> bool:
        """Whether `distill -m ... seed=0,1` can run all seeds: `distill` that is given it once."""
        return self.command.startswith("distill ") and self.command.count("{seed}") == 1


@dataclass(frozen=True)
class Table:
    """A table with its cells, row by row."""

    name: str
    spec: Spec
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> dict[str, str]:
        """Name -> title, of the columns that have cells."""
        names = dict.fromkeys(cell.column for cell in self.cells)
        return {name: self.spec.columns[name].title or name for name in names}

    def with_cells(self, cells: Iterable[Cell]) -> "Table":
        return Table(self.name, self.spec, tuple(cells))


def table_names() -> list[str]:
    """Every table that is shipped."""
    return group_choices("table")


def load_table(name: str) -> Table:
    """Read configs/table/<name>.yaml, or a file of the user's where name ends with .yaml.

    UserError for an unknown name or a wrong file.
    """
    own = name.endswith(".yaml")
    if own and not Path(name).is_file():
        raise UserError(f"table={name}: no such file")
    if not own and name not in table_names():
        raise choice_error("table", name, table_names())
    path = Path(name) if own else config_dir() / "table" / f"{name}.yaml"
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise UserError(f"{path}: cannot be read ({line}{error.problem})") from error
    except (OmegaConfBaseException, ValueError, YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a mapping of keys to values")
    return make_table(path.stem, tree)


def make_table(name: str, tree: Any) -> Table:
    """A table from the content of its file. UserError names the table and the key."""
    try:
        spec = build(Spec, tree)
        cells = tuple(
            cell_of(spec, row, values, column)
            for row, values in rows_of(spec.rows)
            for column in spec.columns
            if any(matches(row, pattern) for pattern in spec.columns[column].rows)
        )
    except UserError as error:
        raise UserError(f"table={name}: {error}") from error
    return Table(name, spec, cells)


def rows_of(rows: Rows) -> list[tuple[str, dict[str, Any]]]:
    """(name, values) of every row; the value v of an axis is v in the name, of ipc it is ipc<v>."""
    found = []
    for combination in itertools.product(*rows.axes.values()):
        values = dict(zip(rows.axes, combination, strict=True))
        name = "/".join(label(axis, value) for axis, value in values.items())
        if not any(matches(name, pattern) for pattern in rows.without):
            found.append((name, values))
    return found


def label(axis: str, value: Any) -> str:
    """How an axis value stands in a cell's name: numbers behind the name of their axis."""
    if not isinstance(value, int | float):
        return str(value)
    return f"{axis}={value}" if axis[-1:].isdigit() else f"{axis}{value}"


def cell_of(spec: Spec, row: str, values: Mapping[str, Any], column_name: str) -> Cell:
    """Fill the templates of one cell."""
    column = spec.columns[column_name]
    values = {**values, **column.values, "column": column_name}
    for axis, known in spec.values_by.items():
        values |= {str(key): more for key, more in known.items()}.get(str(values.get(axis)), {})
    name = f"{row}/{column_name}" if row else column_name
    # Values may themselves be templates (a protocol that depends on the method, for one).
    values = {k: fill(v, values, name) if isinstance(v, str) else v for k, v in values.items()}
    if spec.shares:
        steps = str(values.get("steps"))
        if not steps.isdigit():
            raise UserError(f"{name}: shares: needs the value steps, a whole number, not {steps}")
        values["snapshots"] = ",".join(str(round(share * int(steps))) for share in spec.shares)
    reasons = [why for pattern, why in spec.not_runnable.items() if matches(name, pattern)]
    not_runnable = reasons[0] if reasons else column.not_runnable
    command = "" if not_runnable else fill(column.command or spec.command, values, name)
    program = command.partition(" ")[0]
    if command and program not in PROGRAMS:
        raise choice_error(f"{name}: command", program, PROGRAMS)
    if not command and not not_runnable:
        raise UserError(f"{name}: give command, or not_runnable with the reason")
    trees = column.metrics or spec.metrics
    if not trees:
        raise UserError(f"{name}: metrics: missing; give at least one")
    metrics = tuple(build(MetricSpec, filled(tree, values, name), "metrics.") for tree in trees)
    times = [time for pattern, time in spec.times.items() if matches(name, pattern)]
    published = filled(column.published, values, name)
    return Cell(
        row, column_name, values, command, metrics, spec.seeds, published,
        times[0] if times else column.time, column.note, not_runnable,
    )  # fmt: skip


def filled(tree: Mapping[str, Any], values: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """A tree with its templates filled; a text that is nothing but one field keeps its type."""

    def one(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: one(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [one(item) for item in value]
        if not isinstance(value, str):
            return value
        field = value[1:-1] if value[:1] == "{" and value[-1:] == "}" else ""
        return values[field] if field in values else fill(value, values, cell)

    return one(tree)


class _Open(dict):
    """Leaves {seed} open; any other unknown field is an error."""

    def __missing__(self, key: str) -> str:
        if key == "seed":
            return "{seed}"
        raise KeyError(key)


def fill(template: str, values: Mapping[str, Any], cell: str) -> str:
    """str.format over `values`, with {seed} left open where it is not among them."""
    try:
        return " ".join(string.Formatter().vformat(template, (), _Open(values)).split())
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{cell}: {template!r} has a field {error} without a value") from error


def matches(name: str, pattern: str) -> bool:
    """Whether the parts of a pattern are found in this order among the parts of a cell's name.

    Parts are separated by "/", and may hold the wildcards *, ?, []; parts of the name may be left
    out: "cifar10/ipc1", "ipc1", "cifar10/rfad_*".
    """
    parts = iter(name.split("/"))
    wanted = pattern.strip("/").split("/")
    return all(any(fnmatch.fnmatchcase(part, want) for part in parts) for want in wanted)


def select(table: Table, patterns: Iterable[str], seeds: Iterable[int] | None = None) -> Table:
    """The table with the cells that any pattern matches (all, without patterns), and other seeds
    where these are given. UserError for a pattern that matches nothing."""
    from dataclasses import replace

    patterns = [part for pattern in patterns for part in pattern.split(",") if part]
    names = [cell.name for cell in table.cells]
    wrong = [p for p in patterns if not any(matches(name, p) for name in names)]
    if wrong:
        which = "no such cell" if len(wrong) == 1 else "no such cells"
        raise UserError(f"cells={','.join(wrong)}: table={table.name} has {which}; {known(table)}")
    cells = [c for c in table.cells if not patterns or any(matches(c.name, p) for p in patterns)]
    if seeds is not None:
        chosen = tuple(dict.fromkeys(seeds))
        cells = [replace(cell, seeds=chosen) for cell in cells]
    return table.with_cells(cells)


def known(table: Table) -> str:
    """The cells of a table in words: one by one, or as rows and columns."""
    names = [cell.name for cell in table.cells]
    if len(names) <= LISTED:
        return f"choose among {', '.join(names)}"
    return f"rows are {', '.join(table.rows)}; columns are {', '.join(table.columns)}"
