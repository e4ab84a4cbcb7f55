"""The first block [convolution, ReLU, 2x2 pooling] of one image pair: over 90 % of the time.

Layout and phases as in layout.py. The convolution's 3x3 box at fixed offset is a sum over rows,
V[ax, bx, O][ay, by, columns * j], and then over columns, where moving both pixels by one column
changes the phases:

    (0, 0)  V00[P, O] + V11[P - 1, O] + V11[P, O]
    (1, 1)  V11[P, O] + V00[P, O] + V00[P + 1, O]
    (0, 1)  V01[P, O] + V10[P - 1, O + 1] + V10[P, O + 1]
    (1, 0)  V10[P, O] + V01[P, O - 1] + V01[P + 1, O - 1]

It runs row by row over the pairs of pooled rows (P, P + O) that exist, so that its operands stay in
the level-2 cache. Entries whose partner column is off the image come out as 0, since s2 is 0 there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import relu_dual
from distill_cli.kernels.exact.geometry import Stage
from distill_cli.kernels.exact.layout import (
    PHASES,
    WEIGHT,
    flatten_last,
    materialise,
    reciprocal,
    split_columns,
)


def phase_keys(radius: int) -> list[tuple[int, int, int]]:
    """(ax, bx, O) of every V needed for pooled offsets |O| <= radius."""
    inner = range(-radius, radius + 1)
    keys = [(0, 0, o) for o in inner] + [(1, 1, o) for o in inner]
    keys += [(1, 0, o) for o in range(-radius, radius + 2)]
    return keys + [(0, 1, o) for o in range(-radius - 1, radius + 1)]


def column_box(v: dict, phases: tuple[int, int], o: int, rows: tuple[int, int], j: int) -> Array:
    """Sum over three columns of the summed rows, at phases (ax, bx), pooled offset o, row
    phases."""

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


def _first_relu_pool(v, scales, stage: Stage, bias: float, j: int, ntk: bool, exact=None):
    """ReLU and pooling of one pair of pooled rows: ([K per O], [S per O] or None), T = K - S.

    scales: s1, 1 / s1 as [a, ax, columns * j]; s2, 1 / s2 as [b, bx, padded columns * j]. exact:
    the row offset is 0 and the images are the same, so that cos = 1 at column offset 0. T = K
    before the first ReLU, and so T' = s cos f'(cos) = s f(cos) - s sqrt(1 - cos^2): S, the sum of
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
