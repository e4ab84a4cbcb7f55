"""The general engine: neural-tangents (Novak et al. 2020) on today's JAX.

neural-tangents 0.6.5 no longer imports as a whole (jax >= 0.9), but its closed-form part does: an
empty module of that name with the package's path, registered first, lets `neural_tangents.stax`
load by itself. This also keeps TensorFlow out of the process.

It handles every architecture, holds the full covariance of all pixel pairs where there is pooling,
and is hundreds of times slower there than band.py. It always runs in float32: under
jax_enable_x64 its compiled code crashes on some CPUs.
"""

import functools
import importlib
import importlib.util
import sys
import types
from typing import Any

import jax
import numpy as np

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
)
from distill_cli.errors import UserError


@functools.cache
def load_stax() -> Any:
    """The module neural_tangents.stax; UserError when the package is not installed."""
    if "neural_tangents" not in sys.modules:
        spec = importlib.util.find_spec("neural_tangents")
        if spec is None or spec.submodule_search_locations is None:
            raise UserError("kernel engine neural_tangents: the package neural-tangents is missing")
        shell = types.ModuleType("neural_tangents")
        shell.__path__ = list(spec.submodule_search_locations)
        shell.__spec__ = spec
        sys.modules["neural_tangents"] = shell
    with jax.enable_x64(False):
        return importlib.import_module("neural_tangents.stax")


def stax_layers(architecture: Architecture) -> tuple[Any, Any, Any]:
    """(init, apply, kernel function) of the architecture and its read-out of one output.

    NTK parametrisation: W_std = sqrt(weight_variance), b_std = sqrt(bias_variance), 3x3 SAME
    convolutions, 2x2 VALID average pooling. Widths do not matter to the kernel function.
    """
    stax = load_stax()
    scale = {
        "W_std": float(np.sqrt(architecture.weight_variance)),
        "b_std": float(np.sqrt(architecture.bias_variance)),
    }
    layers = []
    for layer in architecture.layers:
        match layer:
            case Conv(width):
                layers.append(stax.Conv(width, (3, 3), padding="SAME", **scale))
            case Dense(width):
                layers.append(stax.Dense(width, **scale))
            case Relu():
                layers.append(stax.Relu())
            case AvgPool():
                layers.append(stax.AvgPool((2, 2), (2, 2), padding="VALID"))
            case Flatten():
                layers.append(stax.Flatten())
            case GlobalAvgPool():
                layers.append(stax.GlobalAvgPool())
    return stax.serial(*layers, stax.Dense(1, **scale))


@functools.lru_cache(maxsize=16)
def _compiled(architecture: Architecture, get: tuple[str, ...], symmetric: bool) -> Any:
    kernel = stax_layers(architecture)[2]

    def block(x1, x2):
        result = kernel(x1, None if symmetric else x2, get=get)
        return tuple(getattr(result, name) for name in get)

    return jax.jit(block)


def block(
    architecture: Architecture,
    x1: np.ndarray,
    x2: np.ndarray,
    get: tuple[str, ...],
    symmetric: bool = False,
) -> tuple[np.ndarray, ...]:
    """One block of each kernel in `get`, (len(x1), len(x2)) float32; x (n, height, width, channel).

    symmetric: x1 and x2 are the same images, and the diagonal is that of an image with itself.
    """
    with jax.enable_x64(False):
        a, b = np.asarray(x1, np.float32), np.asarray(x2, np.float32)
        return tuple(np.asarray(k) for k in _compiled(architecture, get, symmetric)(a, b))
