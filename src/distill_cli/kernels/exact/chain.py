"""A block of several [convolution, ReLU] and perhaps a 2x2 pooling, one offset at a time.

A convolution and a ReLU never mix offsets, so the whole block at one offset o works on planes
[y, x * j] (all pixels p of one image with their partners p + o) that stay in cache; only the
pooling adds planes of neighbouring offsets. The input of the block has a margin of `convs` zero
pixels, of which every convolution uses one up; the scales are 0 off the images, so K is 0 there,
and T is set to 0. The same planes are recomputed in the derivative
(block_gradient.py).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope
from distill_cli.kernels.exact.geometry import Stage
from distill_cli.kernels.exact.layout import flatten_last, frame, materialise, reciprocal
from distill_cli.kernels.exact.planes import inside

HALF_TURN = 1 / (2 * math.pi)


class Setting(NamedTuple):
    """The static part of a block.

    stage: its last one (a ReLU, with or without pooling). factor: w^2 / 9 c of its first
    convolution; inner: w^2 / 9 of the others; bias: b^2. ntk: T wanted. same: pairs (x, x).
    convs: number of [convolution, ReLU].
    """

    stage: Stage
    factor: float
    inner: float
    bias: float
    ntk: bool
    same: bool
    convs: int

    @property
    def pooled(self) -> bool:
        return self.stage.kind == "relu_pool"


class Source(NamedTuple):
    """What feeds a block at one offset: images, or the band of the block before.

    operands(oy, ox): what C and T are made of at that offset (counted from 0), any pytree.
    convolve(operands) -> (C, T or None where T = C), planes with a margin of convs - 1 pixels.
    """

    operands: Callable[..., Any]
    convolve: Callable[..., tuple[Array, Array | None]]


class Scale(NamedTuple):
    """s and 1 / s (0 where s is 0) of one ReLU with the margin of its plane; second also with the
    offset radius around it."""

    first: Array
    first_inverse: Array
    second: Array
    second_inverse: Array


class Plane(NamedTuple):
    """One ReLU at one offset: C, T (None where T = C) before it; s and 1 / s of the second image
    there."""

    c: Array
    t: Array | None
    s: Array
    s_inverse: Array


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


def row_sum(plane: Array) -> Array:
    """Sums of three rows of a plane [..., y, x * j] at its inner rows."""
    return plane[..., :-2, :] + plane[..., 1:-1, :] + plane[..., 2:, :]


def column_sum(rows: Array, j: int) -> Array:
    return rows[..., : -2 * j] + rows[..., j:-j] + rows[..., 2 * j :]


def inner_box(plane: Array, j: int) -> Array:
    """3x3 sums of a plane [..., y, x * j] at its inner pixels."""
    return column_sum(row_sum(plane), j)


def offsets(stage: Stage) -> tuple[Array, Array]:
    """All offsets of the band, counted from 0, y outside."""
    ry, rx = stage.radius
    grid = jnp.indices((2 * ry + 1, 2 * rx + 1), dtype=jnp.int32).reshape(2, -1)
    return grid[0], grid[1]


def block_scales(setting: Setting, s1: tuple[Array, ...], s2: tuple[Array, ...]) -> list[Scale]:
    """Scale of every ReLU; s1 (y, x, 1 or j), s2 (y, x, j)."""
    ry, rx = setting.stage.radius
    found = []
    for i, (a, b) in enumerate(zip(s1, s2, strict=True)):
        margin = setting.convs - 1 - i
        first = to_planes(jnp.broadcast_to(a, b.shape), (margin, margin))
        second = to_planes(b, (ry + margin, rx + margin))
        found.append(Scale(first, reciprocal(first), second, reciprocal(second)))
    return found


def _relu(setting: Setting, scale: Scale, plane: Plane, exact, flag: Array):
    """(K, K - T or T) after a ReLU; where T = C before it, K - T = s sqrt(1 - cos^2) / (2 pi)."""

    def cosine():
        cos = plane.c * (scale.first_inverse * plane.s_inverse)
        if exact is not None:
            cos = jnp.where(exact, jnp.sign(scale.first * plane.s), cos)
        return cos

    def kernel():
        return relu_dual(cosine()) * (scale.first * plane.s) * HALF_TURN

    def tangent():
        if plane.t is None:
            cos = cosine()
            sine = jax.lax.sqrt(jnp.maximum(1 - cos * cos, 0))
            return sine * (scale.first * plane.s) * HALF_TURN
        on = scale.first * plane.s > 0  # both pixels on their images
        return jnp.where(on, plane.t * relu_dual_slope(cosine()) * HALF_TURN, 0)

    return materialise(flag, lambda: (kernel(), tangent() if setting.ntk else None))


def run_offset(
    setting: Setting, source: Source, scales: list[Scale], offset, j: int, flag: Array, keep: bool
):
    """(operands, Plane of every ReLU, function giving K and T after the last) at one offset.

    keep: the planes are wanted for themselves, and not only for the last result.
    """
    (ry, rx), (oy, ox) = setting.stage.radius, offset

    def read():
        windows = [
            [take(a, (oy, ox * j), scale.first.shape) for a in scale[2:]] for scale in scales
        ]
        return source.operands(oy, ox), windows

    exact = (oy == ry) & (ox == rx) if setting.same else None
    operands, windows = materialise(flag, read)
    c, t = source.convolve(operands)
    planes = [Plane(c, t, *windows[0])]

    def after(i: int):
        k, t = _relu(setting, scales[i], planes[i], exact, flag)
        return k, t, setting.ntk and planes[i].t is None

    for i in range(setting.convs - 1):
        k, t, difference = after(i)

        def rows(k, t=None, difference=difference):
            k = row_sum(k)
            return k, None if t is None else k - row_sum(t) if difference else row_sum(t)

        k, t = materialise(flag, rows, k, t)

        def convolve(k, t=None):
            c = column_sum(k, j) * setting.inner + setting.bias
            return c, None if t is None else c + column_sum(t, j) * setting.inner

        convolved: Any = materialise(flag, convolve, k, t) if keep else convolve(k, t)
        planes.append(Plane(*convolved, *windows[i + 1]))

    def result():
        k, t, difference = after(setting.convs - 1)
        return k, k - t if difference else t

    return operands, planes, result


def chain_block(
    setting: Setting, source: Source, s1: tuple[Array, ...], s2: tuple[Array, ...]
) -> Any:
    """The block: (K, T or None), framed bands (layout.py)."""
    stage, j = setting.stage, s2[0].shape[-1]
    (h, w), (ry, rx) = stage.size, stage.radius
    flag = true_flag(s2[0])
    scales = block_scales(setting, s1, s2)

    def planes(offset):
        return run_offset(setting, source, scales, offset, j, flag, keep=False)[2]()

    if not setting.pooled:
        shape = (2 * ry + 1, 2 * rx + 1, h, w * j)

        def framed(a):
            return None if a is None else frame(a.reshape(shape).swapaxes(0, 1), j)

        k, t = jax.lax.map(planes, offsets(stage))
        return framed(k), framed(t)
    (height, width), (qy, qx) = stage.pooled_size, stage.pooled_radius

    def pool(old, plane, offset):
        plane = plane[: 2 * height].reshape(height, 2, -1, j)[:, :, : 2 * width]
        plane = plane.reshape(height, 2, width, 2, j)
        for ay in (0, 1):  # O = floor((o + a) / 2), counted from one offset before the first
            for ax in (0, 1):
                at = ((offset[1] + ax + 1) // 2, (offset[0] + ay + 1) // 2, 0, 0, 0)
                now = take(old, at, (1, 1, height, width, j))
                old = put(old, now + plane[None, None, :, ay, :, ax] * (1 / 16), at)
        return old

    def body(carry, offset):
        return tuple(
            None if plane is None else pool(old, plane, offset)
            for old, plane in zip(carry, planes(offset), strict=True)
        ), None

    empty = jnp.zeros((2 * qx + 3, 2 * qy + 3, height, width, j), s2[0].dtype)
    carry, _ = jax.lax.scan(body, (empty, empty if setting.ntk else None), offsets(stage))

    # an odd last row or column is no pixel after pooling, but was a partner before it
    on = inside((height, width), (qy, qx), s2[0].dtype).swapaxes(0, 1)

    def framed_sum(a):
        return None if a is None else frame(flatten_last(a[1:-1, 1:-1] * on), j)

    return framed_sum(carry[0]), framed_sum(carry[1])
