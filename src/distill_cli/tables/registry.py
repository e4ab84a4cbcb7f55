"""docs/results/expected.json: what we measured for cells of tables, to verify later runs against.

    {"schema": 1, "entries": [{"table", "cell", "overrides", "method", "dataset", "ipc", "preset",
      "metric", "command", "mean", "std", "n", "seeds", "seconds", "memory_mb", "device",
      "version", "date", "extra": {metric: {"mean", "std", "n"}}}, ...]}

An entry is found by (table, cell, overrides). Sorted, so that changes of the file read well.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from distill_cli.config import config_dir
from distill_cli.core.files import read_json, write_json
from distill_cli.errors import UserError
from distill_cli.report.run_result import RunResult
from distill_cli.tables.measured import Measurement
from distill_cli.tables.show import shown_command
from distill_cli.tables.spec import Table

Entry = dict[str, Any]
KEYS = {"table", "cell", "overrides", "mean", "std", "n", "seeds", "device", "version"}


def default_path() -> Path:
    """The file of the repository, or the copy inside the installed package."""
    packaged = config_dir().parent / "expected.json"
    return packaged if packaged.is_file() else config_dir().parent / "docs/results/expected.json"


def load(path: Path) -> list[Entry]:
    """All entries; an empty list where there is no file. UserError for a malformed file."""
    if not path.exists():
        return []
    tree = read_json(path)
    entries = tree.get("entries") if isinstance(tree, dict) else None
    whole = isinstance(entries, list) and all(
        isinstance(e, dict) and e.keys() >= KEYS and numbers(e) for e in entries
    )
    if not whole or not isinstance(entries, list):
        raise UserError(
            f"expected={path}: not a registry; it must hold entries with {', '.join(sorted(KEYS))}"
        )
    return entries


def numbers(entry: Entry) -> bool:
    """Whether mean, std, n and seeds are what verdicts compute with."""
    return (
        isinstance(entry["mean"], int | float)
        and isinstance(entry["std"], int | float | None)
        and isinstance(entry["n"], int)
        and isinstance(entry["seeds"], list)
    )


def find_entry(
    entries: Sequence[Entry], table: str, cell: str, more: Sequence[str]
) -> Entry | None:  # fmt: skip
    """The entry of a cell under the same overrides, or None."""
    key = (table, cell, " ".join(more))
    return next((e for e in entries if (e["table"], e["cell"], e["overrides"]) == key), None)


def entry_of(table: Table, found: Measurement, more: Sequence[str]) -> Entry | None:
    """What a measurement adds to the registry; None where the first metric has no number."""
    number, cell = found.main, found.cell
    if number is None:
        return None
    result = next(iter(found.results), RunResult())
    extra = zip(cell.metrics[1:], found.numbers[1:], strict=True)
    return {
        "table": table.name, "cell": cell.name, "overrides": " ".join(more),
        "method": result.method or None, "dataset": result.dataset or None, "ipc": result.ipc,
        "preset": result.option("hardware"), "metric": cell.metrics[0].name,
        "command": shown_command(cell, more),
        "mean": rounded(number.mean), "std": rounded(number.std), "n": number.n,
        "seeds": list(number.seeds), "seconds": rounded(found.seconds),
        "memory_mb": found.memory_mb, "device": ", ".join(found.devices),
        "images": cell.metrics[0].images,
        "version": ", ".join(found.versions), "date": date.today().isoformat(),
        "extra": {
            metric.name: {"mean": rounded(n.mean), "std": rounded(n.std), "n": n.n}
            for metric, n in extra
            if n is not None
        },
    }  # fmt: skip


def rounded(value: float | None) -> float | None:
    """Six significant digits: more than any of these numbers means."""
    return None if value is None else float(f"{value:.6g}")


def record(path: Path, new: Sequence[Entry]) -> None:
    """Put entries in place of those of the same cells, atomically."""
    entries = {key_of(entry): entry for entry in [*load(path), *new]}
    write_json(path, {"schema": 1, "entries": [entries[key] for key in sorted(entries)]})


def key_of(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """(table, cell, overrides)."""
    return entry["table"], entry["cell"], entry["overrides"]
