"""What every task sets up and records: numerics, log file, memory, timings."""

import contextlib
import hashlib
import logging
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from distill_cli.core import hosts
from distill_cli.data.cache import cache_dir
from distill_cli.kernels import EXACT_KERNELS

VIRTUAL = "xla_force_host_platform_device_count"  # of XLA_FLAGS


def configure_jax(kernel: str = "", wanted: str = "auto") -> None:
    """64-bit numbers are allowed (kernel solves need them); float32 is chosen explicitly.

    kernel: name of the run's kernel. For the exact ones every core is a device of its own, among
    which their matrices are shared out (kernels/exact_kernel.py), unless XLA_FLAGS say how many
    devices a CPU has; a process whose devices are already chosen keeps them. wanted: the setting
    `devices`. Compiled programs are kept in the cache folder: other seeds and resumed runs start
    sooner. JAX_ENABLE_COMPILATION_CACHE=false turns that off.
    """
    import jax

    from distill_cli.core import determinism, devices

    determinism.prefer_deterministic()
    jax.config.update("jax_enable_x64", True)
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        folder = cache_dir() / "compiled" / processor()
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    # An entry that another process is still writing is compiled again, which is no news.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if kernel in EXACT_KERNELS and VIRTUAL not in os.environ.get("XLA_FLAGS", ""):
        cores = min(hosts.gather(len(os.sched_getaffinity(0))))
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores)
    devices.choose(wanted)


def processor() -> str:
    """Name of this kind of processor: compiled programs run on the kind they were made for, and a
    cache folder may be shared by machines."""
    about = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(about.encode()).hexdigest()[:8]


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copy log records and warnings to a file, and warnings to stderr as one line each; in the
    processes of a run that do not write, drop both."""
    if not hosts.first():
        logger, quiet = logging.getLogger("distill_cli"), logging.NullHandler()
        propagate, logger.propagate = logger.propagate, False
        logger.addHandler(quiet)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        logger.removeHandler(quiet)
        logger.propagate = propagate
        return
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


def matmul_gflops() -> float:
    """10^9 operations a second of float32 matrix products on this machine at this moment, the best
    of a few: what CPU-seconds of different machines compare by."""
    import jax
    import jax.numpy as jnp

    size, best = 1024, float("inf")
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    matrix = jnp.ones((size, size), jnp.float32)
    product(matrix).block_until_ready()
    for _ in range(5):
        begun = time.perf_counter()
        product(matrix).block_until_ready()
        best = min(best, time.perf_counter() - begun)
    return round(2 * size**3 / best / 1e9, 1)


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
