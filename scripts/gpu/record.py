"""The record of compiled programs as JSON: read, replaced row by row, compared."""

import json
import os
from pathlib import Path
from typing import Any

from gpu import signs

SCHEMA = 1
TOLERANCE = 0.05
COMPARED = {
    "temp_bytes": "temporary memory", "launches": "launches", "hbm_bytes": "HBM bytes",
    "roofline_ms": "roofline time",
}  # fmt: skip
Row = dict[str, Any]
Key = tuple[str, int]


def key(row: Row) -> Key:
    """What a row is of."""
    return row["program"], row["devices"]


def read(path: Path) -> dict[str, Any]:
    """The record in a file, an empty one where there is no file; ValueError if it is no record."""
    if not path.is_file():
        return {"schema": SCHEMA, "rows": []}
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{path}: not a record of schema {SCHEMA}")
    return found


def merged(old: list[Row], new: list[Row], order: list[str]) -> list[Row]:
    """Old rows with the new ones in their places, in the order of the programs' names. A row that
    says `alone` takes the place of nothing and goes."""
    rows = {key(row): row for row in [*old, *new]}
    kept = [row for row in rows.values() if not row.get("alone")]
    place = {name: index for index, name in enumerate(order)}
    return sorted(kept, key=lambda row: (place.get(row["program"], len(order)), row["devices"]))


def write(path: Path, record: dict[str, Any]) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def compare(old: list[Row], new: list[Row]) -> list[str]:
    """Regressions of the new rows against old ones of the same program and devices, a line each."""
    before = {key(row): row for row in old}
    found: list[str] = []
    for row in new:
        was = before.get(key(row))
        if was is not None and "error" not in was:
            name = f"{row['program']} on {row['devices']}"
            found += [f"{name}: {text}" for text in _row(was, row)]
    return found


def _row(was: Row, now: Row) -> list[str]:
    if "error" in now:
        return [f"compiled before, now: {now['error']}"]
    if now.get("alone"):
        return ["shared its work out before, now every device does all of it"]
    worse = []
    for name, words in COMPARED.items():
        if now[name] > was[name] * (1 + TOLERANCE):
            ratio = f"{now[name] / was[name] - 1:+.1%}" if was[name] else "from nothing"
            worse.append(f"{words} {was[name]:,} -> {now[name]:,} ({ratio})")
    texts = {sign["kind"]: sign["text"] for sign in now["bad_signs"]}
    for kind in sorted(signs.kinds(now) - signs.kinds(was)):
        worse.append(f"new bad sign {kind}: {texts[kind]}")
    return worse
