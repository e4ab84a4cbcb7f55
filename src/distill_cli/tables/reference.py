"""What a cell is compared with: a published figure, or an expectation that we recorded.

Published figures stand in report/published.json alone; tables name the source and the setting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_cli.report.published import Published, find
from distill_cli.tables.spec import Cell, Table


@dataclass(frozen=True)
class Reference:
    """A figure with its interval half-width before our own error is added.

    kind: published or recorded. std, n: as the figure's source gives them; seeds: of a record.
    """

    kind: str
    mean: float
    std: float | None
    n: int | None
    source: str
    seeds: tuple[int, ...] = ()


def published_of(table: Table, cell: Cell) -> Published | None:
    """The published figure of a cell, or None where none was found."""
    if not cell.published:
        return None
    axes = {key: cell.values[key] for key in ("dataset", "ipc") if key in cell.values}
    return find(table.spec.source, **(axes | dict(cell.published)))


def published_reference(table: Table, cell: Cell) -> Reference | None:
    """The same as a reference."""
    found = published_of(table, cell)
    if found is None:
        return None
    return Reference("published", found.mean, found.spread, found.n, found.source)


def recorded_reference(entry: Mapping[str, Any] | None) -> Reference | None:
    """An entry of the registry as a reference."""
    if entry is None:
        return None
    source = f"recorded on {entry.get('device')} with version {entry.get('version')}"
    std, n, seeds = entry.get("std"), entry.get("n"), tuple(entry.get("seeds") or ())
    return Reference("recorded", entry["mean"], std, n, source, seeds)


def reference_of(
    table: Table,
    cell: Cell,
    entry: Mapping[str, Any] | None,
    more: Sequence[str] = (),
    against: str = "auto",
) -> Reference | None:
    """What a cell is compared with.

    against: published, recorded, or auto: recorded where there is an entry, else published. With
    overrides (`more`) the setting is no longer the published one, and only a record counts.
    """
    recorded = recorded_reference(entry) if against != "published" else None
    if recorded is not None or against == "recorded" or more:
        return recorded
    return published_reference(table, cell)
