"""The record card: device, driver, versions. Fails where jax sees no accelerator."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_stages.record import Record, parse

ASKED = (
    "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,"
    "temperature.gpu,persistence_mode,mig.mode.current"
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")


def smi() -> dict[str, str]:
    """What nvidia-smi says of the first card; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    found = subprocess.run(
        [program, f"--query-gpu={ASKED}", "--format=csv,noheader"],
        capture_output=True, text=True, timeout=15,
    )  # fmt: skip
    lines = found.stdout.strip().splitlines()
    return dict(zip(ASKED.split(","), lines[0].split(", "), strict=False)) if lines else {}


def versions() -> dict[str, str]:
    """Versions of the packages that decide speed and numbers, NVIDIA's among them."""
    from importlib.metadata import distributions

    found = {}
    for one in distributions():
        name = (one.metadata["Name"] or "").lower()
        if name in PACKAGES or name.startswith(("jax-cuda", "nvidia-")):
            found[name] = one.version
    return dict(sorted(found.items()))


def commit() -> str | None:
    """The commit of the source tree, where git knows it."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def main() -> int:
    call = parse()
    record = Record(call.record)
    import jax

    if jax.default_backend() == "cpu" and not call.rehearse:
        return 2
    from distill_cli.version import __version__

    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    record.put(
        device=device.device_kind, platform=device.platform, devices=jax.device_count(),
        platform_version=getattr(device.client, "platform_version", None),
        bytes_limit=memory.get("bytes_limit"), cores=len(os.sched_getaffinity(0)),
        python=sys.version.split()[0], version=__version__, commit=commit(),
        packages=versions(), nvidia_smi=smi(),
        environment={k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_"))},
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
