"""What gram() accepts, and which engine it takes."""

import numpy as np

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    feature_shape,
)
from distill_cli.errors import UserError, choice_error
from distill_cli.kernels.exact import memory, tiles

KERNELS = ("nngp", "ntk")
ENGINES = ("auto", "band", "neural_tangents")


def check_architecture(architecture: Architecture, image_shape: tuple[int, int, int]) -> None:
    """UserError unless the layers fit together on images of this shape."""
    flat = False
    for layer in architecture.layers:
        if isinstance(layer, Flatten | GlobalAvgPool):
            flat = True
        elif isinstance(layer, Dense) and not flat:
            raise UserError("architecture: Dense before Flatten or GlobalAvgPool is not supported")
        elif isinstance(layer, Conv | AvgPool) and flat:
            raise UserError(f"architecture: {type(layer).__name__} after Flatten or GlobalAvgPool")
    if not flat:
        raise UserError("architecture: it must end in Flatten or GlobalAvgPool before the read-out")
    try:
        feature_shape(architecture, image_shape)
    except ValueError as error:
        raise UserError(f"architecture: {error}") from error


def neural_tangents_mb(image_shape: tuple[int, ...]) -> float:
    """MB of one pair in neural-tangents: about six float32 arrays over all pairs of pixels."""
    return 4 * 6 * (image_shape[0] * image_shape[1]) ** 2 / 2**20


def choose_engine(
    architecture: Architecture,
    image_shape: tuple[int, int, int],
    memory_mb: float = 512,
    dtype: type | np.dtype = np.float32,
) -> str:
    """The engine `auto` takes: "band", or "neural_tangents" where only that fits memory_mb.

    The band engine is exact for every architecture that is accepted, since its offsets reach as far
    as the read-out does. Before GlobalAvgPool that is over the whole image: with pooling (Myrtle
    networks) bands stay small, but without, its bands of (2 H - 1) (2 W - 1) offsets exceed even
    the full covariance, and the general engine takes over. UserError if neither fits.
    """
    check_architecture(architecture, image_shape)
    band, memory_mb = tiles.least_mb(architecture, image_shape, dtype), tiles.bound(memory_mb)
    if band <= memory_mb:
        return "band"
    general = neural_tangents_mb(image_shape)
    if np.dtype(dtype) == np.float32 and general <= memory_mb:
        return "neural_tangents"
    least = min(band, general) if np.dtype(dtype) == np.float32 else band
    raise memory.too_small(memory_mb, image_shape, least)


def check(architecture, x1, x2, get, engine, dtype, memory_mb) -> str:
    """The engine to use; UserError naming what cannot be computed."""
    for name, x in (("x1", x1), ("x2", x2)):
        if x.ndim != 4 or 0 in x.shape:
            raise UserError(f"{name}: expected images (n, height, width, channel), found {x.shape}")
        if not np.isfinite(x).all():
            raise UserError(f"{name}: contains NaN or infinite pixels")
    if x1.shape[1:] != x2.shape[1:]:
        raise UserError(f"x1, x2: image shapes differ, {x1.shape[1:]} and {x2.shape[1:]}")
    for name in get:
        if name not in KERNELS:
            raise choice_error("get", name, KERNELS)
    if engine not in ENGINES:
        raise choice_error("engine", engine, ENGINES)
    if dtype not in (np.float32, np.float64):
        raise UserError(f"dtype={dtype}: choose float32 or float64")
    if not memory_mb > 0:
        raise UserError(f"memory_mb={memory_mb}: must be greater than 0")
    shape = x1.shape[1:]
    if engine == "auto":
        return choose_engine(architecture, shape, memory_mb, dtype)
    memory_mb = tiles.bound(memory_mb)
    check_architecture(architecture, shape)
    if engine == "neural_tangents":
        if dtype == np.float64:
            raise UserError("engine=neural_tangents: float32 only; float64 needs engine=band")
        if neural_tangents_mb(shape) > memory_mb:
            raise memory.too_small(memory_mb, shape, neural_tangents_mb(shape))
    elif (least := tiles.least_mb(architecture, shape, dtype)) > memory_mb:
        raise UserError(f"engine=band: {memory.too_small(memory_mb, shape, least)}")
    return engine
