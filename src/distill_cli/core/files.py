"""Small JSON files, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from distill_cli.errors import StorageError


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is not allowed in it."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Parsed JSON, or None where the file is missing or cut off."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
