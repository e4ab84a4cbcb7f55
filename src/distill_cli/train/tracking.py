"""metrics.jsonl: one JSON object a line, in the order of steps, also after a resume."""

import json
import math
import os
from pathlib import Path
from typing import Any


def finite(value: Any) -> Any:
    """A JSON number, or None for NaN and infinities, which JSON does not have."""
    number = float(value)
    return number if math.isfinite(number) else None


class Tracker:
    """Appends to a file and flushes each line, so that a kill loses at most one."""

    def __init__(self, path: Path, resume_at: int | None) -> None:
        """resume_at: lines of this step and later are dropped; they will be written again."""
        kept = [] if resume_at is None else [r for r in read(path) if r["step"] < resume_at]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, path)
        self._file = path.open("a")

    def log(self, step: int, **values: Any) -> None:
        """Write {"step": step, ...}; NaN becomes null."""
        row = {"step": step, **{key: finite(value) for key, value in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a line cut off by a kill is left out."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows
