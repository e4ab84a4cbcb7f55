"""The derivative of one block [convolution, ReLU, 2x2 pooling] run backwards, offset by offset.

In gather form on planes [y, x * j] (all pixels p of one image at a fixed offset o), so that memory
is a few planes and nothing is scattered. g, h are the cotangents of the pooled K', T' (masked,
times 1 / (32 pi)) read at O = floor((o + a) / 2), P = floor(p / 2), a = p mod 2; C is the
convolved band, T its tangent part, s = s1(p) s2(p + o), c = C / s, D = f'(c) = pi - arccos c, D' =
1 / sqrt(1 - c^2):

    dT = h D,   dC = g D + h D + h T D' / s
    ds1(p) = sum_o s2(p + o) [g sqrt(1 - c^2) - h T D' c / s],   ds2(p + o) likewise with s1(p)
    later block   dK_in = (w^2 / 9) box(dC),   dT_in = (w^2 / 9) box(dT)
    first block   T = C,   dE = (w^2 / 9 c) box(dC),
                  dx1(p) = sum_o dE x2(p + o),   dx2(p + o) = sum dE x1(p)

1 - c^2 is clipped at 1e-6 in D' and at 0 under the square root; D' = 0 where c is 1 by definition.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import CLIP, relu_dual_slope
from distill_cli.kernels.exact.geometry import Stage
from distill_cli.kernels.exact.layout import (
    WEIGHT,
    flatten_last,
    materialise,
    reciprocal,
    unframe,
)
from distill_cli.kernels.exact.planes import inside


class Setting(NamedTuple):
    """The static part of a block: geometry, w^2 / 9 c, b^2, NTK wanted, pairs (x, x)."""

    stage: Stage
    factor: float
    bias: float
    ntk: bool
    same: bool


class Sides(NamedTuple):
    """What differs between the first and the later blocks.

    operands(oy, ox): what C and T are made of at that offset (counted from 0), any pytree.
    convolve(operands) -> (C, T or None where T = C), planes [y, x * j].
    finish(carry, (oy, ox), operands, dC, dT) -> (carry, output): what their derivatives go into.
    start: the first carry.
    """

    operands: Callable[..., Any]
    convolve: Callable[..., tuple[Array, Array | None]]
    finish: Callable[..., tuple[Any, Any]]
    start: Any


def take(a: Array, at: tuple, shape: tuple[int, ...]) -> Array:
    """The block of that shape at the given corner."""
    return jax.lax.dynamic_slice(a, [jnp.asarray(i, jnp.int32) for i in at], shape)


def put(a: Array, new: Array, at: tuple) -> Array:
    return jax.lax.dynamic_update_slice(a, new, [jnp.asarray(i, jnp.int32) for i in at])


def true_flag(s: Array) -> Array:
    """The flag for materialise: scales are never negative."""
    return s.reshape(-1)[0] >= 0


def to_planes(x: Array, margin: tuple[int, int]) -> Array:
    """(y, x, ..., j) -> [..., y, x * j], with zero margins."""
    x = jnp.pad(x, [(m, m) for m in margin] + [(0, 0)] * (x.ndim - 2))
    return flatten_last(jnp.moveaxis(x, (0, 1), (-3, -2)))


def inner_box(plane: Array, j: int) -> Array:
    """3x3 sums of a plane [..., y, x * j] at its inner pixels."""
    rows = plane[..., :-2, :] + plane[..., 1:-1, :] + plane[..., 2:, :]
    return rows[..., : -2 * j] + rows[..., j:-j] + rows[..., 2 * j :]


def padded_box(flag: Array, plane: Array, j: int) -> Array:
    """3x3 sums of a plane at all its pixels, zero padding."""
    return inner_box(materialise(flag, lambda a: jnp.pad(a, ((1, 1), (j, j))), plane), j)


def _upsampled(cotangent: Array, stage: Stage, j: int) -> Array:
    """Masked, scaled cotangents of a framed band at every pixel, [ox, oy, y, x * j], with one zero
    offset more on every side."""
    (height, width), (ry, rx) = stage.pooled_size, stage.pooled_radius
    g = unframe(cotangent, j).reshape(2 * rx + 1, 2 * ry + 1, height, width, j)
    g = g * inside((height, width), (ry, rx), g.dtype).swapaxes(0, 1) * WEIGHT
    g = jnp.repeat(jnp.repeat(g, 2, 2), 2, 3)
    h, w = stage.size
    return flatten_last(
        jnp.pad(g, ((1, 1), (1, 1), (0, h - 2 * height), (0, w - 2 * width), (0, 0)))
    )


def block_backward(setting: Setting, sides: Sides, s1: Array, s2: Array, g_k: Array, g_t: Any):
    """(last carry, outputs by offset, ds1, ds2) from the cotangents g_k, g_t of the framed
    bands."""
    stage = setting.stage
    (h, w), (ry, rx) = stage.size, stage.radius
    j = s2.shape[-1]
    flag = true_flag(s2)
    first = flatten_last(jnp.broadcast_to(s1, s2.shape))
    first_inverse = reciprocal(first)
    second = to_planes(s2, (ry, rx))
    second_inverse = reciprocal(second)
    upsampled = [None if g is None else _upsampled(g, stage, j) for g in (g_k, g_t)]
    odd_row = (jnp.arange(h) % 2 == 1)[:, None]
    odd_column = (jnp.arange(w * j) // j % 2 == 1)[None]

    def by_phase(values):
        even, odd = (jnp.where(odd_column, right, left) for left, right in values)
        return jnp.where(odd_row, odd, even)

    def body(carry, offset):
        d_s1, d_s2, rest = carry
        oy, ox = offset
        window = (oy, ox * j)

        def read():
            shape = (1, 1, h, w * j)

            def phases(g):  # at floor((o + a) / 2), o = oy - (2 pooled radius + 1), margin 1
                return [
                    [
                        take(g, ((ox + ax + 1) // 2, (oy + ay + 1) // 2, 0, 0), shape)[0, 0]
                        for ax in (0, 1)
                    ]
                    for ay in (0, 1)
                ]

            cotangents = [None if g is None else phases(g) for g in upsampled]
            planes = [take(a, window, (h, w * j)) for a in (second, second_inverse, d_s2)]
            return sides.operands(oy, ox), cotangents, planes

        operands, cotangents, (s, s_inverse, old) = materialise(flag, read)
        convolved, tangent = materialise(flag, sides.convolve, operands)

        def local():
            inverse = first_inverse * s_inverse
            cosine = convolved * inverse
            left = 1 - cosine * cosine
            slope = relu_dual_slope(cosine)
            g = by_phase(cotangents[0])
            d_c, d_s, d_t = g * slope, g * jax.lax.sqrt(jnp.maximum(left, 0)), None
            if cotangents[1] is not None:
                g_tangent = by_phase(cotangents[1])
                bend = jax.lax.rsqrt(jnp.maximum(left, CLIP))
                if setting.same:
                    bend = jnp.where((oy == ry) & (ox == rx), 0, bend)
                bend = g_tangent * (convolved if tangent is None else tangent) * bend * inverse
                d_t = g_tangent * slope
                d_c, d_s = d_c + d_t + bend, d_s - bend * cosine
            return d_c, d_s, d_t

        d_c, d_s, d_t = materialise(flag, local)
        new = materialise(flag, lambda: old + d_s * first)
        rest, output = sides.finish(rest, offset, operands, d_c, d_t)
        return (d_s1 + d_s * s, put(d_s2, new, window), rest), output

    offsets = jnp.indices((2 * ry + 1, 2 * rx + 1), dtype=jnp.int32).reshape(2, -1)
    start = (jnp.zeros((h, w * j), s2.dtype), jnp.zeros_like(second), sides.start)
    (d_s1, d_s2, rest), outputs = jax.lax.scan(body, start, (offsets[0], offsets[1]))
    d_s1 = d_s1.reshape(h, w, j)
    d_s2 = d_s2.reshape(h + 2 * ry, -1, j)[ry : ry + h, rx : rx + w]
    return rest, outputs, sum_like(d_s1, s1), d_s2


def sum_like(d: Array, x: Array) -> Array:
    """Cotangent of x where x was broadcast over the last axis."""
    return d.sum(-1, keepdims=True) if x.shape[-1] == 1 else d
