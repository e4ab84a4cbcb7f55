"""The memory layout of the band engine's blocks, chosen for XLA's CPU compiler.

Per axis a pixel is p = 2 P + a and its partner p' = 2 P' + b, with phases a, b in {0, 1} and
pooled offset O = P' - P. Columns are split by phase first, and the images j of X2 come last,
flattened with the columns: every shift by a pooled offset is then a contiguous slice of length
(columns * j), which becomes a plain vector loop.

    images           [row, channel, phase, column * j]
    a framed band    [ox, oy, y, x * j], one more row and column of zeros on every side
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
WEIGHT = 1 / (16 * 2 * math.pi)  # of a pooling's 16 terms and the ReLU's 1 / (2 pi)


def materialise(flag: Array, function: Callable, *operands: Any) -> Any:
    """function(*operands), computed before its users rather than again inside each of them.

    XLA's CPU compiler fuses producers into consumers and recomputes them there; a conditional is
    the boundary it respects. flag is a traced true that the compiler cannot know; were it false
    (NaN upstream), the result is NaN.
    """
    if jax.default_backend() != "cpu":
        return function(*operands)
    shapes = jax.eval_shape(function, *operands)

    def unreachable(*_):
        return jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)

    return jax.lax.cond(flag, function, unreachable, *operands)


def reciprocal(s: Array) -> Array:
    return jnp.where(s > 0, 1 / jnp.where(s > 0, s, 1), 0)


def split_columns(x: Array, size: int, radius: int, axis: int) -> Array:
    """Column axis -> (phase, pooled column from -1 - radius to size + radius), zero off the image.

    size: pooled columns. An odd last column is kept: a convolution reads it.
    """
    keep = min(x.shape[axis], 2 * size + 1)
    x = jax.lax.slice_in_dim(x, 0, keep, axis=axis)
    before, after = 2 * (radius + 1), 2 * (size + radius + 1) - keep
    x = jnp.pad(x, [(before, after) if k == axis else (0, 0) for k in range(x.ndim)])
    x = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis + 1, axis)


def flatten_last(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], -1)


def frame(band: Array, j: int) -> Array:
    return jnp.pad(band, ((0, 0), (0, 0), (1, 1), (j, j)))


def unframe(band: Array, j: int) -> Array:
    return band[:, :, 1:-1, j:-j]
