"""Settings of distill-table, typed as key=value or as options of a command line."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """table: name of a table or a file; file: of `readme`; cells: patterns; seeds: instead of the
    table's (None: those); out: folder of results; jobs, launcher: of `run`; format, save, figure:
    of `show`; against: of `verify`; expected: the registry (None: the shipped one, or that beside
    a table file); check: of `readme`."""

    table: str | None = None
    file: str | None = None
    cells: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    out: Path = Path("outputs")
    jobs: int = 1
    launcher: str | None = None
    format: str = "terminal"
    save: Path | None = None
    figure: Path | None = None
    against: str = "auto"
    expected: Path | None = None
    check: bool = False
    more: tuple[str, ...] = field(default=())
