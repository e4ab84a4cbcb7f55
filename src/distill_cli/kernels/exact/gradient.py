"""The blocks of the band engine with hand-written derivatives.

first_block and next_block below compute what blocks.py computes; their derivative is the recursion of
a block run backwards in gather form, offset by offset, on planes [y, x * j] (all pixels p of one image
at a fixed offset o), so that memory is a few planes and nothing is scattered. With g, h the cotangents
of the pooled K', T' (masked, times 1 / (32 pi)) read at O = floor((o + a) / 2), P = floor(p / 2), a = p mod 2,
C the convolved band, T its tangent part, s = s1(p) s2(p + o), c = C / s, D = f'(c) = pi - arccos c and
D' = 1 / sqrt(1 - c^2):

    dT = h D,   dC = g D + h D + h T D' / s
    ds1(p) = sum_o s2(p + o) [g sqrt(1 - c^2) - h T D' c / s],   ds2(p + o) likewise with s1(p)
    dK_in = (w^2 / 9) box(dC),   dT_in = (w^2 / 9) box(dT)
    first block: T = C, dE = (w^2 / 9 c) box(dC), dx1(p) = sum_o dE x2(p + o), dx2(p + o) = sum dE x1(p)

1 - c^2 is clipped at 1e-6 in D' and at 0 under the square root; D' = 0 where c is 1 by definition.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact import blocks
from distill_cli.kernels.exact.arc_cosine import CLIP, relu_dual_slope
from distill_cli.kernels.exact.blocks import WEIGHT, flatten_last, materialise
from distill_cli.kernels.exact.geometry import Stage
from distill_cli.kernels.exact.planes import inside


def take(a: Array, at: tuple, shape: tuple[int, ...]) -> Array:
    """The block of that shape at the given corner."""
    return jax.lax.dynamic_slice(a, [jnp.asarray(i, jnp.int32) for i in at], shape)


def put(a: Array, new: Array, at: tuple) -> Array:
    return jax.lax.dynamic_update_slice(a, new, [jnp.asarray(i, jnp.int32) for i in at])


class Setting(NamedTuple):
    """The static part of a block: geometry, w^2 / 9 c, b^2, NTK wanted, pairs (x, x)."""

    stage: Stage
    factor: float
    bias: float
    ntk: bool
    same: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def first_block(setting: Setting, x: Array, z: Array, rows: Array, s1: Array, s2: Array):
    """(K, T or None) of the first block, pooled framed bands.

    x (y, x, c, 1 or j), z (y, x, c, j), rows: z by blocks.image_rows (not differentiated; z is);
    s1 (y, x, 1 or j), s2 (y, x, j).
    """
    stage, j = setting.stage, z.shape[-1]
    wide = jnp.broadcast_to(x * setting.factor**0.5, (*x.shape[:3], j))
    return blocks.first_block(
        blocks.image_rows(wide, stage, 0),
        rows,
        blocks.scale_rows(jnp.broadcast_to(s1, (*s1.shape[:2], j)), stage, None),
        blocks.scale_rows(s2, stage, stage.pooled_radius[1]),
        stage, setting.bias, j, setting.ntk, setting.same,
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def next_block(setting: Setting, k: Array, t: Array | None, s1: Array, s2: Array):
    """(K, T or None) of a later block, from and to framed bands; s1, s2 as above."""
    stage, j = setting.stage, s2.shape[-1]
    wide = jnp.broadcast_to(s1, s2.shape)
    ry, rx = stage.pooled_radius
    exact = None
    if setting.same:
        exact = (jnp.arange(-rx, rx + 1)[:, None] == 0) & (jnp.arange(-ry, ry + 1)[None] == 0)
        exact = exact[:, :, None, None]
    return blocks.next_block(
        k, t, lambda: blocks.band_scales(wide, s2, stage), stage, setting.factor, setting.bias,
        j, _flag(s2), exact,
    )  # fmt: skip


def _flag(s: Array) -> Array:
    return s.reshape(-1)[0] >= 0


def _plane(x: Array, margin: tuple[int, int]) -> Array:
    """(y, x, ..., j) -> [..., y, x * j], zero margins."""
    x = jnp.pad(x, [(m, m) for m in margin] + [(0, 0)] * (x.ndim - 2))
    return flatten_last(jnp.moveaxis(x, (0, 1), (-3, -2)))


def _upsampled(cotangent: Array, stage: Stage, j: int) -> Array:
    """Masked, scaled cotangents [ox, oy, Y, X * j] at every pixel, with one zero offset more around."""
    (height, width), (ry, rx) = stage.pooled_size, stage.pooled_radius
    g = blocks.unframe(cotangent, j).reshape(2 * rx + 1, 2 * ry + 1, height, width, j)
    g = g * inside((height, width), (ry, rx), g.dtype).swapaxes(0, 1) * WEIGHT
    g = jnp.repeat(jnp.repeat(g, 2, 2), 2, 3)
    h, w = stage.size
    g = jnp.pad(g, ((1, 1), (1, 1), (0, h - 2 * height), (0, w - 2 * width), (0, 0)))
    return flatten_last(g)


def _box(plane: Array, j: int) -> Array:
    """3x3 sums of a plane with one more pixel on every side."""
    rows = plane[..., :-2, :] + plane[..., 1:-1, :] + plane[..., 2:, :]
    return rows[..., : -2 * j] + rows[..., j:-j] + rows[..., 2 * j :]


def _padded_box(flag: Array, plane: Array, j: int) -> Array:
    plane = materialise(flag, lambda a: jnp.pad(a, ((1, 1), (j, j))), plane)
    return _box(plane, j)


class _Operands(NamedTuple):
    """What one offset reads: summands of C and of T, scales, cotangents by pixel phase."""

    source: Any
    s2: Array
    r2: Array
    g: tuple[Array, ...]
    h: tuple[Array, ...] | None


def _backward(setting: Setting, source, finish, empty, s1, s2, g_k, g_t, dtype):
    """The loop over offsets shared by both blocks.

    source(oy, ox): operands of C (and T) at that offset;  finish(carry, where, operands, dC, dT) ->
    (carry, output): what becomes of their derivatives. Returns (carry, outputs, ds1, ds2).
    """
    stage = setting.stage
    (h, w), (ry, rx) = stage.size, stage.radius
    j = s2.shape[-1]
    wide = flatten_last(jnp.broadcast_to(s1, s2.shape))
    r1 = blocks.reciprocal(wide)
    s2p = _plane(s2, (ry, rx))
    r2p = blocks.reciprocal(s2p)
    up_k = _upsampled(g_k, stage, j)
    up_t = None if g_t is None else _upsampled(g_t, stage, j)
    flag = _flag(s2)
    odd_row = (jnp.arange(h) % 2 == 1)[:, None]
    odd_column = (jnp.arange(w * j) // j % 2 == 1)[None]

    def body(carry, where):
        oy, ox = where  # counted from 0
        window = (oy, ox * j)

        def operands():
            def phases(up):
                # floor((o + a) / 2) + radius' + 1, with o = oy - (2 radius' + 1)
                return tuple(
                    take(up, ((ox + ax + 1) // 2, (oy + ay + 1) // 2, 0, 0), (1, 1, h, w * j))[0, 0]
                    for ay in (0, 1)
                    for ax in (0, 1)
                )

            return _Operands(
                source(oy, ox),
                take(s2p, window, (h, w * j)),
                take(r2p, window, (h, w * j)),
                phases(up_k),
                None if up_t is None else phases(up_t),
            ), take(carry[1], window, (h, w * j))

        ops, old_s2 = materialise(flag, operands)

        def pixelwise(values):
            v00, v01, v10, v11 = values
            return jnp.where(
                odd_row, jnp.where(odd_column, v11, v10), jnp.where(odd_column, v01, v00)
            )

        c = materialise(flag, lambda a: finish.convolved(a), ops.source)

        def local():
            convolved, tangent = c
            r = r1 * ops.r2
            cosine = convolved * r
            g = pixelwise(ops.g)
            slope = relu_dual_slope(cosine)
            left = 1 - cosine * cosine
            d_c = g * slope
            d_s = g * jax.lax.sqrt(jnp.maximum(left, 0))
            d_t = None
            if ops.h is not None:
                d_t = pixelwise(ops.h) * slope
                bend = jax.lax.rsqrt(jnp.maximum(left, CLIP))
                if setting.same:
                    bend = jnp.where((oy == ry) & (ox == rx), 0, bend)
                bend = pixelwise(ops.h) * (convolved if tangent is None else tangent) * bend * r
                d_c = d_c + d_t + bend
                d_s = d_s - bend * cosine
            return d_c, d_s, d_t

        d_c, d_s, d_t = materialise(flag, local)
        d_s1 = carry[0] + d_s * ops.s2
        new_s2 = materialise(flag, lambda: old_s2 + d_s * wide)
        d_s2 = put(carry[1], new_s2, window)
        rest, output = finish(carry[2], (oy, ox), ops.source, d_c, d_t, flag)
        return (d_s1, d_s2, rest), output

    offsets = jnp.indices((2 * ry + 1, 2 * rx + 1), dtype=jnp.int32).reshape(2, -1)
    start = (jnp.zeros((h, w * j), dtype), jnp.zeros(s2p.shape, dtype), empty)
    (d_s1, d_s2, rest), output = jax.lax.scan(body, start, (offsets[0], offsets[1]))
    d_s1 = d_s1.reshape(h, w, j)
    if s1.shape[-1] == 1:
        d_s1 = d_s1.sum(-1, keepdims=True)
    d_s2 = d_s2.reshape(h + 2 * ry, -1, j)[ry : ry + h, rx : rx + w]
    return rest, output, d_s1, d_s2


def _first_forward(setting, x, z, rows, s1, s2):
    return first_block(setting, x, z, rows, s1, s2), (x, z, s1, s2)


def _first_backward(setting: Setting, saved, cotangents):
    x, z, s1, s2 = saved
    (h, w), (ry, rx) = setting.stage.size, setting.stage.radius
    channels, j = z.shape[2:]
    root = setting.factor**0.5
    xp = _plane(jnp.broadcast_to(x * root, z.shape), (1, 1))
    zp = _plane(z * root, (ry + 1, rx + 1))
    centre = xp[:, 1:-1, j:-j]

    def source(oy, ox):
        return take(zp, (0, oy, ox * j), (channels, h + 2, (w + 2) * j))

    class Finish:
        @staticmethod
        def convolved(window):
            energy = materialise(_flag(s2), lambda a: (xp * a).sum(0), window)
            return _box(energy, j) + setting.bias, None

        def __call__(self, carry, where, window, d_c, d_t, flag):
            d_x, d_z = carry
            oy, ox = where
            d_e = materialise(flag, lambda a: _padded_box(flag, a, j), d_c)
            at = (0, oy, ox * j)
            old = materialise(flag, lambda a: take(a, at, centre.shape), d_z)
            new = materialise(flag, lambda: old + d_e[None] * centre)
            d_x = d_x + d_e[None] * window[:, 1:-1, j:-j]
            return (d_x, put(d_z, new, at)), None

    empty = jnp.zeros_like(centre), jnp.zeros((channels, h + 2 * ry, (w + 2 * rx) * j), z.dtype)
    (d_x, d_z), _, d_s1, d_s2 = _backward(
        setting, source, Finish(), empty, s1, s2, *cotangents, z.dtype
    )
    d_x = jnp.moveaxis(d_x.reshape(channels, h, w, j), 0, 2) * root
    if x.shape[-1] == 1:
        d_x = d_x.sum(-1, keepdims=True)
    d_z = d_z.reshape(channels, h + 2 * ry, -1, j)[:, ry : ry + h, rx : rx + w]
    return d_x, jnp.moveaxis(d_z, 0, 2) * root, None, d_s1, d_s2


def _next_forward(setting, k, t, s1, s2):
    return next_block(setting, k, t, s1, s2), (k, t, s1, s2)


def _next_backward(setting: Setting, saved, cotangents):
    k, t, s1, s2 = saved
    (h, w), (ry, rx) = setting.stage.size, setting.stage.radius
    j = s2.shape[-1]

    def source(oy, ox):
        return [
            None if band is None else take(band, (ox, oy, 0, 0), (1, 1, h + 2, (w + 2) * j))[0, 0]
            for band in (k, t)
        ]

    class Finish:
        @staticmethod
        def convolved(windows):
            c = _box(windows[0], j) * setting.factor + setting.bias
            tangent = None if windows[1] is None else c + _box(windows[1], j) * setting.factor
            return c, tangent

        def __call__(self, carry, where, windows, d_c, d_t, flag):
            out = [None if d is None else _padded_box(flag, d, j) for d in (d_c, d_t)]
            return carry, out

    _, out, d_s1, d_s2 = _backward(setting, source, Finish(), (), s1, s2, *cotangents, s2.dtype)
    on = inside((h, w), (ry, rx), s2.dtype).swapaxes(0, 1) * setting.factor
    d_k, d_t = (
        None
        if d is None
        else blocks.frame(
            flatten_last(d.reshape(2 * ry + 1, 2 * rx + 1, h, w, j).swapaxes(0, 1) * on), j
        )
        for d in out
    )
    return d_k, d_t, d_s1, d_s2


first_block.defvjp(_first_forward, _first_backward)
next_block.defvjp(_next_forward, _next_backward)
