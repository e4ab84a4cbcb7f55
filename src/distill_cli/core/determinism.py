"""The same bits from the same run on a GPU, as far as XLA can promise them.

On a CPU nothing is done: a program repeats there. On a GPU two things make results differ from run
to run. Operations whose order of addition is left to chance (scatter with atomics, some of cuDNN's
convolution gradients) are excluded by an XLA flag. Algorithms are chosen by timing (autotuning),
which may end otherwise in another process; what is chosen is kept with the compiled programs in
JAX's persistent cache (tasks/runtime.py), so runs that share a cache folder share the choice.

XLA reads its flags once, when the first backend starts. docs/gpu.md says what is promised.
"""

import importlib.util
import os
from collections.abc import MutableMapping

VARIABLE = "XLA_FLAGS"
FLAG = "--xla_gpu_exclude_nondeterministic_ops"
# Any of these in the user's own flags is a decision that stands.
DECIDES = (FLAG, "--xla_gpu_deterministic_ops")
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin")


def has_gpu_plugin() -> bool:
    """Whether JAX has a plugin for GPUs in this environment; starts no backend."""
    return any(importlib.util.find_spec(name) is not None for name in PLUGINS)


def without_gpu(platforms: str | None) -> bool:
    """Whether JAX_PLATFORMS names platforms, and none of GPUs."""
    named = {name.strip().lower() for name in (platforms or "").split(",")} - {""}
    return bool(named) and not named & {"cuda", "gpu", "rocm"}


def prefer_deterministic(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Exclude operations that do not repeat, for this process and those that it starts; to be
    called before JAX's first backend starts.

    The user's own XLA_FLAGS stay, and win. False where nothing was changed: no plugin for GPUs,
    JAX_PLATFORMS without one, or flags that already decide.
    """
    if not has_gpu_plugin() or without_gpu(environment.get("JAX_PLATFORMS")):
        return False
    given = environment.get(VARIABLE, "")
    if any(flag.split("=")[0] in DECIDES for flag in given.split()):
        return False
    environment[VARIABLE] = f"{given} {FLAG}=true".strip()
    return True
