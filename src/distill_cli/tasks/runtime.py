"""What every task sets up and records: numerics, log file, lock, memory, timings."""

import contextlib
import fcntl
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from distill_cli.errors import UserError
from distill_cli.kernels import EXACT_KERNELS


def configure_jax(kernel: str = "") -> None:
    """64-bit numbers are allowed (kernel solves need them); float32 is chosen explicitly.

    kernel: name of the run's kernel. For the exact ones every core is a device of its own, among
    which their matrices are shared out (kernels/exact_kernel.py); a process whose devices are
    already chosen keeps them.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    if kernel in EXACT_KERNELS:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"out: cannot write to {folder} ({error.strerror or error})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another distill is running this same configuration"
            ) from error
        yield


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copy log records and warnings to a file, and warnings to stderr as one line each."""
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    to_terminal.setLevel(logging.WARNING)
    logger = logging.getLogger("distill_cli")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in (to_file, to_terminal):
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in (to_file, to_terminal):
            logger.removeHandler(handler)
        to_file.close()
        logger.setLevel(level)
        logger.propagate = propagate


def peak_memory_mb() -> dict[str, float | None]:
    """Peak resident memory of this process, and of the accelerator where it says."""
    import jax

    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host_mb = host / 2**20 if sys.platform == "darwin" else host / 1024
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return {"host": round(host_mb), "device": None if peak is None else round(peak / 2**20)}


class Stopwatch:
    """Seconds since creation, and since the last lap."""

    def __init__(self) -> None:
        self.origin = self.last = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        passed, self.last = now - self.last, now
        return round(passed, 2)

    def total(self) -> float:
        return round(time.monotonic() - self.origin, 2)
