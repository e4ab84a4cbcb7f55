"""Matrix products as tensor cores compute them, on a CPU: what they lose against float32.

A float32 operand is cut into parts of few bits, x = x_0 + x_1 + ..., whose products are exact; an
algorithm adds up some of them, x_i y_j, smallest first. A tensor core adds a few products at a time
to its float32 sum and cuts off what does not fit (Ootomo and Yokota 2022, arXiv 2203.03341). XLA's
Triton kernels sum a tile in the core and add tiles by rounded float32 additions (read from the PTX
that jaxlib 0.10.2 writes for sm_90a); its cuBLAS path leaves the whole sum to the core.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

TILE = 32  # contracted numbers of a tile


@dataclass(frozen=True)
class Algorithm:
    """bits: significant bits of a part; pairs: (part of a, part of b) of the products added; step:
    contracted numbers that a core adds at once."""

    bits: int
    pairs: tuple[tuple[int, int], ...]
    step: int


TWO_PARTS = ((1, 0), (0, 1), (0, 0))
THREE_PARTS = ((1, 1), (2, 0), (0, 2), *TWO_PARTS)
ALGORITHMS = {
    "TF32": Algorithm(11, ((0, 0),), 8),
    "TF32_X3": Algorithm(11, TWO_PARTS, 8),
    "BF16_X3": Algorithm(8, TWO_PARTS, 16),
    "BF16_X6": Algorithm(8, THREE_PARTS, 16),
}
Product = Callable[[Array, Array], Array]


def rounded(x: Array, bits: int) -> Array:
    """float64 x to the nearest number of so many significant bits."""
    fraction, exponent = jnp.frexp(x)
    return jnp.ldexp(jnp.round(fraction * 2.0**bits), exponent - bits)


def cut_off(x: Array) -> Array:
    """float64 x to the next float32 towards zero, as float64."""
    near = x.astype(jnp.float32)
    inner = jnp.nextafter(near, jnp.zeros_like(near))
    return jnp.where(jnp.abs(near.astype(x.dtype)) > jnp.abs(x), inner, near).astype(x.dtype)


def nearest(x: Array) -> Array:
    """float64 x to the nearest float32, as float64."""
    return x.astype(jnp.float32).astype(x.dtype)


def parts(x: Array, algorithm: Algorithm) -> list[Array]:
    """x in parts of few bits, the largest first."""
    found = []
    for _ in range(1 + max(max(pair) for pair in algorithm.pairs)):
        found.append(rounded(x, algorithm.bits))
        x = x - found[-1]
    return found


def _sum(a: Array, b: Array, step: int, start: Array, keep: Callable[[Array], Array]) -> Array:
    """start + a @ b, kept to float32 after every `step` contracted numbers."""
    length = -(-a.shape[1] // step) * step
    a, b = (jnp.pad(x, ((0, length - a.shape[1]), (0, 0))) for x in (a.T, b))
    chunks = (a.reshape(-1, step, a.shape[1]), b.reshape(-1, step, b.shape[1]))

    def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        return keep(total + chunk[0].T @ chunk[1]), None

    return lax.scan(add, start, chunks)[0]


@partial(jax.jit, static_argnames=("name", "whole"))
def emulated(
    a: Float[Array, "n k"], b: Float[Array, "k m"], name: str, whole: bool = False
) -> Float[Array, "n m"]:
    """a @ b by one of ALGORITHMS, or "float32": one rounded addition after the other.

    whole: cuBLAS' way, a sum for each pair over all contracted numbers; else Triton's, a sum for
    each tile over all pairs. Returns the operands' dtype.
    """
    x, y = a.astype(jnp.float64), b.astype(jnp.float64)
    zero = jnp.zeros((a.shape[0], b.shape[1]), jnp.float64)
    if name == "float32":
        return _sum(x, y, 1, zero, nearest).astype(a.dtype)
    algorithm = ALGORITHMS[name]
    left, right = parts(x, algorithm), parts(y, algorithm)
    pairs = [(left[i], right[j]) for i, j in algorithm.pairs]
    total = zero
    if whole:
        for p, q in pairs:
            total = nearest(total + _sum(p, q, algorithm.step, zero, cut_off))
        return total.astype(a.dtype)

    count = -(-a.shape[1] // TILE)
    short = count * TILE - a.shape[1]
    tiles = [
        (
            jnp.pad(p, ((0, 0), (0, short))).reshape(-1, count, TILE).swapaxes(0, 1),
            jnp.pad(q, ((0, short), (0, 0))).reshape(count, TILE, -1),
        )
        for p, q in pairs
    ]

    def add(total: Array, tile: list[tuple[Array, Array]]) -> tuple[Array, None]:
        inside = zero
        for p, q in tile:
            inside = _sum(p, q, algorithm.step, inside, cut_off)
        return nearest(total + inside), None

    return lax.scan(add, total, tiles)[0].astype(a.dtype)


def exact(a: Float[np.ndarray, "n k"], b: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "n m"]:
    """a @ b in float64."""
    return np.asarray(a, np.float64) @ np.asarray(b, np.float64)
