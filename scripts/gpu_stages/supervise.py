"""One stage in a process of its own: ended at its limit, its record merged while it runs."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill_cli.core.files import read_json

TAIL = 1500  # characters kept of what a stage that fails says
POLL = 0.25


def supervise(
    command: Sequence[str],
    limit: float,
    record: Path,
    environment: dict[str, str],
    merged: Callable[[dict[str, Any]], None],
    grace: float,
) -> dict[str, Any]:
    """Run a command for at most `limit` seconds.

    It is the head of a process group, which is asked to end `grace` seconds before the limit and
    killed at it. merged(record) is called whenever the record file changes. Returns
    {status: done (exit code 0), failed, stopped (when asked to end) or killed; exit_code, seconds,
    limit[, said]}.
    """
    begun = time.monotonic()
    log = record.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            asked, seen = False, 0
            while process.poll() is None:
                taken = time.monotonic() - begun
                if taken >= limit:
                    break
                if taken >= limit - grace and not asked:
                    asked = signalled(process, signal.SIGTERM)
                seen = merge_if_new(record, seen, merged)
                time.sleep(POLL)
            ended_by_itself = process.poll() is not None
        finally:
            signalled(process, signal.SIGKILL)  # and whatever it left running
            process.wait()
    merge_if_new(record, seen, merged)
    code = process.returncode
    status = "done" if code == 0 else "stopped" if asked else "failed"
    if not ended_by_itself:
        status = "killed"
    found = {"status": status, "exit_code": code, "limit": round(limit, 1)}
    if status != "done":
        found["said"] = log.read_text(errors="replace")[-TAIL:]
    return found | {"seconds": round(time.monotonic() - begun, 2)}


def signalled(process: subprocess.Popen, number: int) -> bool:
    """Send a signal to the process and all its children; True."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
    return True


def merge_if_new(record: Path, seen: int, merged: Callable[[dict[str, Any]], None]) -> int:
    """Hand the record on if the file is not the one seen before; its modification time."""
    try:
        now = record.stat().st_mtime_ns
    except OSError:
        return seen
    if now != seen:
        found = read_json(record)
        if isinstance(found, dict):
            merged(found)
    return now
