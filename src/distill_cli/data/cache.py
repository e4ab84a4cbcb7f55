"""Arrays kept between runs: decoded splits and fitted preprocessing.

One uncompressed .npz per entry in $DISTILL_CACHE_DIR, else $XDG_CACHE_HOME/distill_cli, else
~/.cache/distill_cli. An entry's name carries a hash of everything it was made from, so entries
never go stale; one that cannot be read is made again, and a folder that cannot be written is done
without.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill_cli.core.files import write_npz

Arrays = dict[str, np.ndarray]
FORMAT = 1
log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The cache folder; it need not exist."""
    if own := os.environ.get("DISTILL_CACHE_DIR"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "distill_cli"


def cache_key(**parts: object) -> str:
    """Hash of what an entry is made from; parts are JSON values."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def file_states(files: list[Path], root: Path) -> list[tuple[str, int, int]]:
    """(name, size, modification time) of each file: changes when a file changes."""
    states = []
    for file in sorted(files):
        stat = file.stat()
        states.append((file.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns))
    return states


def cached(name: str, key: str, build: Callable[[], Arrays], enabled: bool = True) -> Arrays:
    """The arrays of entry `name-key`, read from the cache or built and then kept there."""
    if not enabled:
        return build()
    path = cache_dir() / f"{name}-{key}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = build()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_npz(path, arrays)
        except OSError as error:
            log.warning("cache %s cannot be written (%s); going on without", path, error)
    return arrays


def _read(path: Path) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as entry:
            return {name: entry[name] for name in entry.files}
    except Exception as error:  # whatever a damaged file provokes, the remedy is the same
        log.warning("cache entry %s is unusable (%s); it is made again", path, error)
        return None
