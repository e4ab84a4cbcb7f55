"""Files written whole or not at all: JSON, npz, bytes. Imports no jax."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from distill_cli.errors import StorageError, UserError

WHOLE_NUMBERS = re.compile(r"\[\n\s*-?\d+(?:,\n\s*-?\d+)*\n\s*\]")  # as json indents a list


def check_folder(out: Path) -> Path:
    """The nearest existing folder at or above `out`; UserError where a file is in the way."""
    place = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not place.is_dir():
        which = "a file" if place == out else f"{place} is a file"
        raise UserError(f"out={out}: {which}; give a folder")
    return place


def check_out(out: Path) -> None:
    """UserError where no folder `out` can be made or written to, before any work."""
    place = check_folder(out)
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"out={out}: no permission to write to {place}")


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file in the same folder, then give it its name.

    Raises StorageError where that fails; a former file of that name stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes."""
    write_whole(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Write JSON, a list of whole numbers on one line; NaN is not allowed in it."""
    text = json.dumps(value, indent=1, allow_nan=False, default=str) + "\n"
    # The text of a string has no line break in JSON, so that none is touched.
    text = WHOLE_NUMBERS.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)
    write_bytes(path, text.encode())


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an npz without pickles."""
    values: dict[str, Any] = {key: np.asarray(value) for key, value in arrays.items()}
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **values))


def read_json(path: Path) -> Any:
    """Parsed JSON, or None where the file is missing or cut off."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
