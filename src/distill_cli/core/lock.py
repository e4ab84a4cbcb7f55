"""Locks of result folders: one process works on a folder, and only that one may clean it up.

The system releases a lock when its process ends, however it ends. Imports no jax.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from distill_cli.errors import UserError

NAME = ".lock"
UNUSED = {".hydra", NAME, "distill.log"}  # what a run leaves that wrong input kept from starting
ATTEMPTS, PATIENCE = 100, 5


def take(path: Path) -> IO[str] | None:
    """The lock on a file, made where it is missing: open until it is given back, or None where
    another process has it. Raises OSError where the file cannot be made.

    Who held it before may have removed the file, even with its folder, between opening and
    locking: then the lock is on a file that nobody else can see, and it is tried again.
    """
    for attempt in range(ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("w")
        except FileNotFoundError:
            if attempt + 1 == ATTEMPTS:
                raise
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if attempt >= PATIENCE:
                handle.close()
                return None
            time.sleep(0.02)  # perhaps it is only being looked at (is_locked)
        handle.close()
    return None


@contextlib.contextmanager
def holding(path: Path, taken: str, keep: bool = True) -> Iterator[None]:
    """Hold the lock on a file. UserError, with the text `taken`, where another process has it.

    keep: leave the file there afterwards.
    """
    try:
        handle = take(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"out: cannot write to {path.parent} ({reason})") from error
    if handle is None:
        raise UserError(taken)
    with handle:
        try:
            yield
        finally:
            if not keep:
                path.unlink(missing_ok=True)


def locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a result folder's lock."""
    return holding(folder / NAME, f"{folder}: another distill is running this same configuration")


def is_locked(folder: Path) -> bool:
    """Whether a process works on a result folder."""
    with contextlib.suppress(OSError), (folder / NAME).open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_if_unused(folder: Path) -> None:
    """Take away the folder that Hydra made for a run that wrong input kept from starting.

    Nothing is touched where another process holds the folder's lock, or where anything else is in
    it.
    """
    if not folder.is_dir():
        return
    handle = None
    with contextlib.suppress(OSError):
        handle = take(folder / NAME)
    if handle is None:
        return
    with handle, contextlib.suppress(OSError):
        if not {path.name for path in folder.iterdir()} <= UNUSED:
            return
        shutil.rmtree(folder / ".hydra", ignore_errors=True)
        (folder / "distill.log").unlink(missing_ok=True)
        (folder / NAME).unlink()
        remove_empty(folder)


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Around a block that may leave a folder empty: then it is taken away."""
    try:
        yield
    finally:
        remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Take away a folder and up to three above it, as long as they are empty; never the working
    directory of the shell."""
    with contextlib.suppress(OSError):
        here = Path.cwd()
        for place in (folder, *list(folder.absolute().parents)[:3]):
            if here.is_relative_to(place.absolute()):
                return
            place.rmdir()
