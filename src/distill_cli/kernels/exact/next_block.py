"""A later block [convolution, ReLU, 2x2 pooling] of one image pair, from band to band.

The whole band is one array (layout.py), offsets and rows in front, so that a block is a handful of
operations; the recursion is that of band.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope
from distill_cli.kernels.exact.geometry import Stage
from distill_cli.kernels.exact.layout import (
    PHASES,
    WEIGHT,
    flatten_last,
    frame,
    materialise,
    reciprocal,
)


class BandScales(NamedTuple):
    """s and 1 / s (0 where s is 0) of both images on the pooled band, for next_block.

    s1, r1: [1, 1, P, a, ax, columns * j].  s2, r2: [O_x, O_y, P, b, bx, columns * j], the window
    at P + O. inside: 1 where P + O is on the image, [O_x, O_y, P, columns * j].
    """

    s1: Array
    r1: Array
    s2: Array
    r2: Array
    inside: Array


def band_scales(s1: Array, s2: Array, stage: Stage) -> BandScales:
    """From s1, s2 (y, x, j), the square roots of the diagonals."""
    (height, width), (ry, rx) = stage.pooled_size, stage.pooled_radius

    def phases(s):  # -> [P_y, a, ax, P_x, j]
        s = s[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
        return jnp.moveaxis(s, 3, 2)

    def windows(s):
        s = jnp.pad(s, ((ry, ry), (0, 0), (0, 0), (rx, rx), (0, 0)))
        rows = jnp.stack([s[o : o + height] for o in range(2 * ry + 1)])
        columns = [rows[:, :, :, :, o : o + width] for o in range(2 * rx + 1)]
        return flatten_last(jnp.stack(columns))

    one, two = phases(s1), phases(s2)
    on = windows(jnp.ones_like(two[:, :1, :1]))[:, :, :, 0, 0]
    first = flatten_last(one)[None, None]
    second = windows(two)
    return BandScales(first, reciprocal(first), second, reciprocal(second), on)


def _row_sums(flag: Array, band: Array, stage: Stage, factor: float, j: int) -> tuple[Array, Array]:
    """Three-row sums times factor, [ox, oy, row, column * j], of columns -1, 1, .. and of 0, 2, ..

    In two steps, each a plain copy or sum for the compiler; one step with a flattened result costs
    three times as much.
    """
    height, width = stage.pooled_size

    def rows(band):
        band = band[:, :, : 2 * height + 2, : (2 * width + 2) * j]
        return (band[:, :, :-2] + band[:, :, 1:-1] + band[:, :, 2:]) * factor

    def phases(sums):
        sums = sums.reshape(*sums.shape[:3], width + 1, 2 * j)
        return sums[..., :j], sums[..., j:]

    odd, even = materialise(flag, phases, materialise(flag, rows, band))
    return flatten_last(odd), flatten_last(even)


def next_block(
    k, t, scales: Callable[[], BandScales], stage: Stage, factor, bias, j, flag, exact=None
):
    """The block on a framed band: (K, T), the pooled framed bands; T None without the NTK.

    exact: [O_x, O_y, 1, 1], true at offset 0 where the two images are the same.
    """
    (height, width), (ry, rx) = stage.pooled_size, stage.pooled_radius
    rows = [None if band is None else _row_sums(flag, band, stage, factor, j) for band in (k, t)]
    scales = materialise(flag, scales)

    def convolved(sums, a, b, ax, bx):
        oy, ox, n = 1 + b - a, 1 + bx - ax, width * j
        odd, even = (
            y[ox : ox + 4 * rx + 1 : 2, oy : oy + 4 * ry + 1 : 2, a : 2 * height : 2] for y in sums
        )
        if ax:
            return even[..., :n] + odd[..., j:] + even[..., j:]
        return odd[..., :n] + even[..., :n] + odd[..., j:]

    k_sum = t_sum = jnp.zeros((), k.dtype)
    for ax, bx in PHASES:
        for a, b in PHASES:
            c = convolved(rows[0], a, b, ax, bx) + bias
            cosine = c * scales.r1[:, :, :, a, ax] * scales.r2[:, :, :, b, bx]
            s = scales.s1[:, :, :, a, ax] * scales.s2[:, :, :, b, bx]
            if exact is not None and a == b and ax == bx:
                cosine = jnp.where(exact, jnp.sign(s), cosine)
            k_sum += relu_dual(cosine) * s
            if t is not None:
                tangent = c + convolved(rows[1], a, b, ax, bx)
                t_sum += tangent * relu_dual_slope(cosine)
    k = frame(k_sum * WEIGHT, j)
    return k, None if t is None else frame(t_sum * scales.inside * WEIGHT, j)
