"""The derivative of one block [convolution, ReLU] x k and perhaps pooling, offset by offset.

In gather form on the planes [y, x * j] of chain.py, which are recomputed, so that memory is a few
planes and nothing is scattered. At each ReLU: g, h are the cotangents of K and T after it, times
1 / (2 pi); C is the convolved plane, T its tangent part, s = s1(p) s2(p + o), c = C / s, D =
f'(c) = pi - arccos c, D' = 1 / sqrt(1 - c^2):

    dT = h D,   dC = g D + h D + h T D' / s
    ds1(p) = sum_o s2(p + o) [g sqrt(1 - c^2) - h T D' c / s],   ds2(p + o) likewise with s1(p)

before pooling  g, h are those of the pooled band at O = floor((o + a) / 2), P = floor(p / 2), a = p
mod 2, times 1 / 16; before a further convolution they are (w^2 / 9) box(dC), (w^2 / 9) box(dT) of
the next. What feeds the block (gradient.py) receives dC and dT of its first ReLU:

    a band        dK = (w^2 / 9) box(dC),   dT = (w^2 / 9) box(dT)
    images        T = C,   dE = (w^2 / 9 c) box(dC),
                  dx1(p) = sum_o dE x2(p + o),   dx2(p + o) = sum dE x1(p)

1 - c^2 is clipped at 1e-6 in D' and at 0 under the square root; D' = 0 where c is 1 by definition.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import CLIP, relu_dual_slope
from distill_cli.kernels.exact.chain import (
    HALF_TURN,
    Scale,
    Setting,
    Source,
    block_scales,
    inner_box,
    offsets,
    put,
    run_offset,
    take,
    true_flag,
)
from distill_cli.kernels.exact.layout import flatten_last, materialise, unframe
from distill_cli.kernels.exact.planes import inside


def padded_box(flag: Array, plane: Array, j: int) -> Array:
    """3x3 sums of a plane at all its pixels, zero padding."""
    return inner_box(materialise(flag, lambda a: jnp.pad(a, ((1, 1), (j, j))), plane), j)


def _upsampled(cotangent: Array, setting: Setting, j: int) -> Array:
    """Masked, scaled cotangents of a framed band at every pixel, [ox, oy, y, x * j]; with pooling
    one zero offset more on every side."""
    stage = setting.stage
    size, (ry, rx), weight = stage.size, stage.radius, HALF_TURN
    if setting.pooled:
        size, (ry, rx), weight = stage.pooled_size, stage.pooled_radius, HALF_TURN / 16
    g = unframe(cotangent, j).reshape(2 * rx + 1, 2 * ry + 1, *size, j)
    g = g * inside(size, (ry, rx), g.dtype).swapaxes(0, 1) * weight
    if not setting.pooled:
        return flatten_last(g)
    g = jnp.repeat(jnp.repeat(g, 2, 2), 2, 3)
    rest = [(0, full - 2 * part) for full, part in zip(stage.size, size, strict=True)]
    return flatten_last(jnp.pad(g, ((1, 1), (1, 1), *rest, (0, 0))))


def _cotangent_reader(setting: Setting, g_k: Array, g_t: Array | None, j: int):
    """(read(offset) -> pytree, select(pytree) -> (g, h or None)) planes of one offset."""
    h, w = setting.stage.size
    arrays = [None if g is None else _upsampled(g, setting, j) for g in (g_k, g_t)]
    shape = (1, 1, h, w * j)

    def plane(g, oy, ox):
        return None if g is None else take(g, (ox, oy, 0, 0), shape)[0, 0]

    if not setting.pooled:
        return lambda o: [plane(g, *o) for g in arrays], lambda planes: planes
    odd_row = (jnp.arange(h) % 2 == 1)[:, None]
    odd_column = (jnp.arange(w * j) // j % 2 == 1)[None]

    def read(offset):  # at floor((o + a) / 2), o = oy - (2 pooled radius + 1), margin 1
        oy, ox = offset
        return [
            [[plane(g, (oy + ay + 1) // 2, (ox + ax + 1) // 2) for ax in (0, 1)] for ay in (0, 1)]
            for g in arrays
        ]

    def select(values):
        def by_phase(phases):
            if phases[0][0] is None:
                return None
            even, odd = (jnp.where(odd_column, right, left) for left, right in phases)
            return jnp.where(odd_row, odd, even)

        return [by_phase(phases) for phases in values]

    return read, select


def relu_backward(c, t, g, h, first_inverse, s_inverse, at_centre):
    """(dC, the bracket of ds1 and ds2, dT or None) of one ReLU; at_centre: c is 1 by definition."""
    inverse = first_inverse * s_inverse
    cosine = c * inverse
    left = 1 - cosine * cosine
    slope = relu_dual_slope(cosine)
    d_c, d_s, d_t = g * slope, g * jax.lax.sqrt(jnp.maximum(left, 0)), None
    if h is not None:
        bend = jax.lax.rsqrt(jnp.maximum(left, CLIP))
        if at_centre is not None:
            bend = jnp.where(at_centre, 0, bend)
        bend = h * (c if t is None else t) * bend * inverse
        d_t = h * slope
        d_c, d_s = d_c + d_t + bend, d_s - bend * cosine
    return d_c, d_s, d_t


def block_backward(
    setting: Setting,
    source: Source,
    finish: Callable[..., tuple[Any, Any]],
    start: Any,
    s1: tuple[Array, ...],
    s2: tuple[Array, ...],
    g_k: Array,
    g_t: Array | None,
):
    """(last carry, outputs by offset, ds1, ds2) from the cotangents g_k, g_t of the framed bands.

    finish(carry, (oy, ox), operands, dC, dT) -> (carry, output): what the derivatives of the
    block's first convolution go into; start: the first carry.
    """
    stage, j = setting.stage, s2[0].shape[-1]
    (h, w), (ry, rx) = stage.size, stage.radius
    flag = true_flag(s2[0])
    scales = block_scales(setting, s1, s2)
    inner = [_inner_scale(scale, setting.convs - 1 - i, j) for i, scale in enumerate(scales)]
    read, select = _cotangent_reader(setting, g_k, g_t, j)

    def body(carry, offset):
        d_s1, d_s2, rest = carry
        oy, ox = offset
        window = (oy, ox * j)
        centre = (oy == ry) & (ox == rx) if setting.same else None
        operands, planes, _ = run_offset(setting, source, scales, offset, j, flag, True)
        found = materialise(flag, lambda: read(offset))
        g, h_t = None, None
        for i in reversed(range(setting.convs)):
            margin = setting.convs - 1 - i
            plane = [_crop(a, margin, j) for a in planes[i]]

            def local(g=g, h_t=h_t, i=i, plane=plane):
                if i == setting.convs - 1:
                    g, h_t = select(found)
                c, t, s, s_inverse = plane
                d_c, d_s, d_t = relu_backward(
                    c, t, g, h_t, inner[i].first_inverse, s_inverse, centre
                )
                on = s > 0
                return jnp.where(on, d_c, 0), d_s, None if d_t is None else jnp.where(on, d_t, 0)

            d_c, d_s, d_t = materialise(flag, local)

            def update(i=i, d_s=d_s):
                return take(d_s2[i], window, (h, w * j)) + d_s * inner[i].first

            d_s1[i] = d_s1[i] + d_s * plane[2]
            d_s2[i] = put(d_s2[i], materialise(flag, update), window)
            if i:
                weight = setting.inner * HALF_TURN
                g, h_t = (
                    None if d is None else padded_box(flag, d, j) * weight for d in (d_c, d_t)
                )
        rest, output = finish(rest, offset, operands, d_c, d_t)
        return (d_s1, d_s2, rest), output

    dtype = s2[0].dtype
    d_s1 = [jnp.zeros((h, w * j), dtype)] * setting.convs
    d_s2 = [jnp.zeros((h + 2 * ry, (w + 2 * rx) * j), dtype)] * setting.convs
    (d_s1, d_s2, rest), outputs = jax.lax.scan(body, (d_s1, d_s2, start), offsets(stage))
    d_s1 = tuple(sum_like(d.reshape(h, w, j), s) for d, s in zip(d_s1, s1, strict=True))
    d_s2 = tuple(d.reshape(h + 2 * ry, -1, j)[ry : ry + h, rx : rx + w] for d in d_s2)
    return rest, outputs, d_s1, d_s2


def _crop(plane: Array | None, margin: int, j: int) -> Array | None:
    if plane is None or not margin:
        return plane
    return plane[margin:-margin, margin * j : -margin * j]


def _inner_scale(scale: Scale, margin: int, j: int) -> Scale:
    return scale._replace(
        first=_crop(scale.first, margin, j), first_inverse=_crop(scale.first_inverse, margin, j)
    )


def sum_like(d: Array, x: Array) -> Array:
    """Cotangent of x where x was broadcast over the last axis."""
    return d.sum(-1, keepdims=True) if x.shape[-1] == 1 else d
