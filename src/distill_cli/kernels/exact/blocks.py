"""The hot path of the band engine: one block [convolution, ReLU, 2x2 pooling] of one image pair row.

Layout. Per axis a pixel is p = 2 P + a and its partner p' = 2 P' + b with phases a, b in {0, 1} and
pooled offset O = P' - P. Splitting the columns by phase first, and putting the images j of X2 last and
flattening them with the columns, makes every shift by a pooled offset a contiguous slice of length
(columns * j), which is what XLA's CPU compiler turns into plain vector loops:

    rows of images   x[row, channel, phase, column * j]
    a framed band    [ox, oy, y, x * j], with one more row and column of zeros on every side
    summed rows      V[ax, bx, O][ay, by, ..., (column with one more on one side) * j]

The convolution's 3x3 box at fixed offset is a sum over rows (V) and then over columns, where moving
both pixels by one column changes the phases:

    (0, 0)  V00[P, O] + V11[P - 1, O] + V11[P, O]        (0, 1)  V01[P, O] + V10[P - 1, O+1] + V10[P, O+1]
    (1, 1)  V11[P, O] + V00[P, O] + V00[P + 1, O]        (1, 0)  V10[P, O] + V01[P, O-1] + V01[P + 1, O-1]

Entries whose partner is off the image come out as 0 by themselves, since its s2 there is 0.
Over 90 % of the time goes into the first block. It runs row by row over the pairs of pooled rows
(P, P + O) that exist, so that its operands stay in the level-2 cache.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope
from distill_cli.kernels.exact.geometry import Stage


def materialise(flag: Array, function: Callable, *operands: Any) -> Any:
    """function(*operands), computed before its users rather than again inside each of them.

    XLA's CPU compiler fuses producers into consumers and recomputes them there; a conditional is the
    boundary it respects. flag is a traced true that the compiler cannot know; were it false (NaN
    upstream), the result is NaN.
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


def phase_keys(radius: int) -> list[tuple[int, int, int]]:
    """(ax, bx, O) of every V needed for pooled offsets |O| <= radius."""
    inner = range(-radius, radius + 1)
    keys = [(0, 0, o) for o in inner] + [(1, 1, o) for o in inner]
    keys += [(1, 0, o) for o in range(-radius, radius + 2)]
    return keys + [(0, 1, o) for o in range(-radius - 1, radius + 1)]


def column_box(v: dict, phases: tuple[int, int], o: int, rows: tuple[int, int], j: int) -> Array:
    """Sum over three columns of the summed rows, at phases (ax, bx), pooled offset o, row phases."""

    def left(ax, bx, o):
        return v[ax, bx, o][rows][..., :-j]

    def right(ax, bx, o):
        return v[ax, bx, o][rows][..., j:]

    # V with ax = 0 covers columns 0 .. size, with ax = 1 columns -1 .. size - 1
    match phases:
        case (0, 0):
            return left(0, 0, o) + left(1, 1, o) + right(1, 1, o)
        case (1, 1):
            return right(1, 1, o) + left(0, 0, o) + right(0, 0, o)
        case (0, 1):
            return left(0, 1, o) + left(1, 0, o + 1) + right(1, 0, o + 1)
        case _:
            return right(1, 0, o) + left(0, 1, o - 1) + right(0, 1, o - 1)


PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))


WEIGHT = 1 / (16 * 2 * math.pi)  # of a pooling's 16 terms and the ReLU's 1 / (2 pi)


def _first_relu_pool(v, scales, stage: Stage, bias: float, j: int, ntk: bool, exact=None):
    """ReLU and pooling of one pair of pooled rows: ([K per O], [S per O] or None), T = K - S.

    scales: s1, 1 / s1 as [a, ax, columns * j]; s2, 1 / s2 as [b, bx, padded columns * j].
    exact: the row offset is 0 and the images are the same, so that cos = 1 at column offset 0.
    T = K before the first ReLU, and so T' = s cos f'(cos) = s f(cos) - s sqrt(1 - cos^2): S, the sum of
    the last term, is all that the NTK adds.
    """
    s1, r1, s2, r2 = scales
    size, radius = stage.pooled_size[1], stage.pooled_radius[1]
    k_out, s_out = [], []
    for o in range(-radius, radius + 1):
        start = (o + radius + 1) * j
        window = slice(start, start + size * j)
        k_sum, s_sum = 0.0, 0.0
        for ax, bx in PHASES:
            for a in (0, 1):
                for b in (0, 1):
                    c = column_box(v, (ax, bx), o, (a, b), j) + bias
                    cosine = c * r1[a, ax] * r2[b, bx, window]
                    if exact is not None and o == 0 and ax == bx and a == b:
                        cosine = jnp.where(exact, jnp.sign(s1[a, ax]), cosine)
                    k_sum += relu_dual(cosine) * s1[a, ax] * s2[b, bx, window]
                    if ntk:
                        sine = jax.lax.sqrt(jnp.maximum(1 - cosine * cosine, 0))
                        s_sum += sine * s1[a, ax] * s2[b, bx, window]
        k_out.append(k_sum * WEIGHT)
        s_out.append(s_sum * WEIGHT)
    return k_out, s_out if ntk else None


def row_pairs(size: int, radius: int) -> np.ndarray:
    """(pooled row P, partner row P + O, row in the framed band) of every pair that exists."""
    return np.array(
        [
            (p, p + o, (o + radius) * (size + 2) + p + 1)
            for o in range(-radius, radius + 1)
            for p in range(size)
            if 0 <= p + o < size
        ],
        np.int32,
    )


def image_rows(x: Array, stage: Stage, radius: int) -> Array:
    """(y, x, c, j) -> [row from -1 to 2 S', channel, phase, column * j], zero off the image."""
    height = stage.pooled_size[0]
    x = jnp.moveaxis(x, 2, 1)[: 2 * height + 1]
    x = jnp.pad(x, ((1, 2 * height + 1 - len(x)), (0, 0), (0, 0), (0, 0)))
    return flatten_last(split_columns(x, stage.pooled_size[1], radius, 2))


def scale_rows(s: Array, stage: Stage, radius: int | None) -> Array:
    """(y, x, j) -> [row, phase, column * j]; radius None: the columns of the image only."""
    height, width = stage.pooled_size
    s = s[: 2 * height, : 2 * width]
    if radius is None:
        return flatten_last(jnp.moveaxis(s.reshape(2 * height, width, 2, -1), 2, 1))
    return flatten_last(split_columns(s, width, radius, 1))


def first_block(rows1, rows2, s1, s2, stage: Stage, bias: float, j: int, ntk: bool, same=False):
    """The block on images: (K, T or None), pooled framed bands.

    rows1, rows2: image_rows of both, times sqrt(w^2 / 9 c); rows1 with radius 0 and the one image
    repeated over j, rows2 with radius R + 1. s1, s2: scale_rows (radius None; R).
    """
    (height, width), (ry, rx) = stage.pooled_size, stage.pooled_radius
    channels = rows1.shape[1]
    flag = s1.reshape(-1)[0] >= 0
    r1, r2 = reciprocal(s1), reciprocal(s2)
    take = jax.lax.dynamic_slice_in_dim

    def summed_rows(a1, a2):
        def one(ax, bx, o):
            first = 0 if ax else 1  # pooled column -1 or 0
            shift = first + o + rx + 1
            x = a1[:, :, ax, first * j : (first + width + 1) * j]
            z = a2[:, :, bx, shift * j : (shift + width + 1) * j]
            return sum(
                x[d : d + 2, None, c] * z[None, d : d + 2, c]
                for d in range(3)
                for c in range(channels)
            )

        return {key: one(*key) for key in phase_keys(rx)}

    def body(carry, where):
        p, q, position = where

        def rows():
            images = take(rows1, 2 * p, 4), take(rows2, 2 * q, 4)
            return images, tuple(take(s, 2 * p, 2) for s in (s1, r1)) + tuple(
                take(s, 2 * q, 2) for s in (s2, r2)
            )

        images, scales = materialise(flag, rows)
        v = materialise(flag, summed_rows, *images)
        exact = p == q if same else None
        k, s = _first_relu_pool(v, scales, stage, bias, j, ntk, exact)
        new = k if s is None else k + s
        carry = [
            jax.lax.dynamic_update_slice(old, row[None], (position, jnp.int32(j)))
            for old, row in zip(carry, new, strict=True)
        ]
        return carry, None

    count = (2 * rx + 1) * (2 if ntk else 1)
    empty = jnp.zeros(((2 * ry + 1) * (height + 2), (width + 2) * j), rows1.dtype)
    out, _ = jax.lax.scan(body, [empty] * count, tuple(row_pairs(height, ry).T))
    k, *s = (
        jnp.stack(out[i : i + 2 * rx + 1]).reshape(2 * rx + 1, 2 * ry + 1, height + 2, -1)
        for i in range(0, count, 2 * rx + 1)
    )
    return k, k - s[0] if ntk else None


class BandScales(NamedTuple):
    """s and 1 / s (0 where s is 0) of both images on the pooled band, for next_block.

    s1, r1: [1, 1, P, a, ax, columns * j].  s2, r2: [O_x, O_y, P, b, bx, columns * j], the window at P + O.
    inside: 1 where P + O is on the image, [O_x, O_y, P, columns * j].
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


def frame(band: Array, j: int) -> Array:
    return jnp.pad(band, ((0, 0), (0, 0), (1, 1), (j, j)))


def unframe(band: Array, j: int) -> Array:
    return band[:, :, 1:-1, j:-j]


def _row_sums(flag: Array, band: Array, stage: Stage, factor: float, j: int) -> tuple[Array, Array]:
    """Three-row sums times factor, [ox, oy, row, column * j], of columns -1, 1, .. and of 0, 2, ..

    In two steps, each a plain copy or sum for the compiler; one step with a flattened result costs three
    times as much.
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


def next_block(k, t, scales: Callable[[], BandScales], stage: Stage, factor, bias, j, flag, exact=None):
    """The block on a framed band: (K, T), the pooled framed bands; T None without the NTK.

    exact: [O_x, O_y, 1, 1], true at offset 0 where the two images are the same.
    """
    (height, width), (ry, rx) = stage.pooled_size, stage.pooled_radius
    rows = [
        None if band is None else _row_sums(flag, band, stage, factor, j) for band in (k, t)
    ]
    scales = materialise(flag, scales)

    def convolved(sums, a, b, ax, bx):
        oy, ox, n = 1 + b - a, 1 + bx - ax, width * j
        odd, even = (
            y[ox : ox + 4 * rx + 1 : 2, oy : oy + 4 * ry + 1 : 2, a : 2 * height : 2] for y in sums
        )
        if ax:
            return even[..., :n] + odd[..., j:] + even[..., j:]
        return odd[..., :n] + even[..., :n] + odd[..., j:]

    k_sum, t_sum = 0.0, 0.0
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
