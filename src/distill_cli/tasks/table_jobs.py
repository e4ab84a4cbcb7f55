"""Commands of a table's cells as child processes: started, watched, ended with this one."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill_cli.data.cache import cache_dir
from distill_cli.errors import StorageError

ATTENDED = [sys.executable, "-m", "distill_cli.cli.attended"]
TAIL = 4000  # bytes of a log that are looked at


@dataclass
class Child:
    """A running command; its output goes to a log."""

    name: str
    argv: Sequence[str]
    log: Path
    started: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Child":
        """Start it. StorageError where its log cannot be written."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                log.write(f"$ {' '.join(self.argv)}\n".encode())
                log.flush()
                # A group of its own: Ctrl-C reaches it once, through the closing of its input.
                self.process = subprocess.Popen(
                    [*ATTENDED, *self.argv], stdin=subprocess.PIPE, stdout=log, stderr=log,
                    process_group=0, env=environment(),
                )  # fmt: skip
        except OSError as error:
            raise StorageError(f"cannot write {self.log}: {error.strerror or error}") from error
        return self

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        return None if self.process is None else self.process.poll()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def stop(self) -> None:
        """Ask it to save its state and end: by closing its input, as if this process had died."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def last_line(self) -> str:
        """The last line of the log that is not empty."""
        lines = tail(self.log)
        return lines[-1] if lines else ""

    def error_line(self) -> str:
        """The line that says why it failed, or the last one."""
        lines = tail(self.log)
        said = [line for line in lines if line.startswith(("error:", "stopped:"))]
        return (said or lines or ["no output"])[-1]


def environment() -> dict[str, str]:
    """This process's, with JAX's cache of compiled programs unless one is chosen: the seeds of a
    cell run the same programs. It lies beside the data cache of this machine."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(cache_dir() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    return cache | dict(os.environ)


def tail(path: Path) -> list[str]:
    """Last lines of a file, without empty ones and without the parts a live line overwrote."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rsplit("\r", 1)[-1].strip() for line in text.splitlines() if line.strip()]
