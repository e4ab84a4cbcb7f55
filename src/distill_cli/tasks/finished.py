"""Whether a folder holds the finished result of this very command: the question every task asks
before it works.

A result agrees where every key of the command's identity (digest, version, schema, ...) has the
same value in it. It is whole where the files it names are there, with their recorded content.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_cli.core.coreset_io import sha256
from distill_cli.core.files import read_json


def agreeing(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON object of a file, where it has this identity; None where it has another, is
    damaged or is not there."""
    found = read_json(path)
    if not isinstance(found, dict):
        return None
    return found if all(found.get(key) == value for key, value in identity.items()) else None


def whole(folder: Path, files: Mapping[str, str | None]) -> bool:
    """Whether all files are there, by name; a SHA-256 beside a name must be that of the content."""
    return all(
        (folder / name).is_file() and (known is None or sha256(folder / name) == known)
        for name, known in files.items()
    )
