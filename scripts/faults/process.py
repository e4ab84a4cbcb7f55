"""Running a command, stopping it at a moment, and judging what it said."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1800  # seconds; a command that takes longer hangs
# What stands on standard error besides a last line.
SAID = re.compile(r"(error|stopped|note|warning|WARNING|stopping|INFO|resuming)\b|$")


class Ended(NamedTuple):
    """How a command ended: exit code (-9 where it was killed), standard error, seconds."""

    code: int
    said: str
    seconds: float

    @property
    def complaint(self) -> str:
        """What is wrong with what it said; "" where every line is one of a kind."""
        lines = [line.strip() for line in self.said.splitlines()]
        if "Traceback" in self.said:
            return f"a traceback: {lines[-1] if lines else ''}"
        odd = [line for line in lines if not SAID.match(line)]
        ends = [line for line in lines if line.startswith(("error:", "stopped:"))]
        # Below 0: killed, or a signal that came while Python itself was leaving, all being done.
        if self.code > 0 and len(ends) != 1:
            return f"{len(ends)} lines say why it ended with {self.code}: {self.said.strip()[:300]}"
        return f"an odd line: {odd[0]}" if odd else ""


def start(
    words: Sequence[str],
    cwd: Path,
    more: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> subprocess.Popen:
    """A command in a process group of its own, of this source tree, with a cache beside `cwd`."""
    name, *rest = words
    entry = f"from distill_cli.cli.entry import start; start({name.removeprefix('distill-')!r})"
    path = os.pathsep.join([str(ROOT / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    around = os.environ | {"PYTHONPATH": path, "DISTILL_CACHE_DIR": str(cwd / "cache")}
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", entry, *rest], cwd=cwd, env=around | (dict(more or {})),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, begun: float | None = None) -> Ended:
    """Wait for the end; whoever hangs is killed, and said so."""
    begun = time.monotonic() if begun is None else begun
    try:
        _, said = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        strike(process, signal.SIGKILL)
        _, said = process.communicate()
        said += f"\nTraceback: hung for {LIMIT} s"
    return Ended(process.returncode, said, time.monotonic() - begun)


def strike(process: subprocess.Popen, number: signal.Signals) -> None:
    """Send a signal to a command and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def run(words: Sequence[str], cwd: Path, **options) -> Ended:
    """A command to its end."""
    begun = time.monotonic()
    return finish(start(words, cwd, **options), begun)


def stopped_after(words: Sequence[str], cwd: Path, seconds: float, number: signal.Signals) -> Ended:
    """A command that gets a signal after so many seconds."""
    begun = time.monotonic()
    process = start(words, cwd)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    strike(process, number)
    return finish(process, begun)
