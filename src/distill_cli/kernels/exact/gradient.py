"""The blocks of the band engine with their hand-written derivatives (block_gradient.py)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distill_cli.kernels.exact import first_block as first
from distill_cli.kernels.exact import next_block as later
from distill_cli.kernels.exact.block_gradient import (
    Setting,
    Sides,
    block_backward,
    inner_box,
    padded_box,
    put,
    sum_like,
    take,
    to_planes,
    true_flag,
)
from distill_cli.kernels.exact.layout import flatten_last, frame, materialise
from distill_cli.kernels.exact.planes import inside

Bands = tuple[Array, Array | None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def first_block(setting: Setting, x: Array, z: Array, rows: Array, s1: Array, s2: Array) -> Bands:
    """(K, T or None) of the first block, framed bands [ox, oy, y, x * j] (layout.py).

    x (y, x, c, 1 or j), z (y, x, c, j), rows: z by first_block.image_rows (not differentiated; z
    is); s1 (y, x, 1 or j), s2 (y, x, j).
    """
    stage, j = setting.stage, z.shape[-1]
    wide = jnp.broadcast_to(x * setting.factor**0.5, (*x.shape[:3], j))
    return first.first_block(
        first.image_rows(wide, stage, 0),
        rows,
        first.scale_rows(jnp.broadcast_to(s1, (*s1.shape[:2], j)), stage, None),
        first.scale_rows(s2, stage, stage.pooled_radius[1]),
        stage, setting.bias, j, setting.ntk, setting.same,
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def next_block(setting: Setting, k: Array, t: Array | None, s1: Array, s2: Array) -> Bands:
    """(K, T or None) of a later block, from and to framed bands; s1, s2 as above."""
    stage, j = setting.stage, s2.shape[-1]
    (ry, rx), exact = stage.pooled_radius, None
    if setting.same:
        exact = np.zeros((2 * rx + 1, 2 * ry + 1, 1, 1), bool)
        exact[rx, ry] = True
    return later.next_block(
        k, t, lambda: later.band_scales(jnp.broadcast_to(s1, s2.shape), s2, stage), stage,
        setting.factor, setting.bias, j, true_flag(s2), exact,
    )  # fmt: skip


def _first_forward(setting, x, z, rows, s1, s2):
    return first_block(setting, x, z, rows, s1, s2), (x, z, s1, s2)


def _first_backward(setting: Setting, saved, cotangents):
    x, z, s1, s2 = saved
    (h, w), (ry, rx) = setting.stage.size, setting.stage.radius
    channels, j = z.shape[2:]
    root, flag = setting.factor**0.5, true_flag(s2)
    framed = to_planes(jnp.broadcast_to(x * root, z.shape), (1, 1))
    centre = framed[:, 1:-1, j:-j]
    partners = to_planes(z * root, (ry + 1, rx + 1))

    def operands(oy, ox):
        return take(partners, (0, oy, ox * j), framed.shape)

    def convolve(partner):
        products = materialise(flag, lambda a: (framed * a).sum(0), partner)
        return inner_box(products, j) + setting.bias, None

    def finish(carry, offset, partner, d_c, _):
        d_x, d_z = carry
        at = (0, offset[0], offset[1] * j)
        d_e = materialise(flag, lambda a: padded_box(flag, a, j), d_c)[None]
        old = materialise(flag, lambda a: take(a, at, centre.shape), d_z)
        new = materialise(flag, lambda: old + d_e * centre)
        return (d_x + d_e * partner[:, 1:-1, j:-j], put(d_z, new, at)), None

    start = jnp.zeros_like(centre), jnp.zeros_like(partners[:, 1:-1, j:-j])
    sides = Sides(operands, convolve, finish, start)
    (d_x, d_z), _, d_s1, d_s2 = block_backward(setting, sides, s1, s2, *cotangents)
    d_x = jnp.moveaxis(d_x.reshape(channels, h, w, j), 0, 2) * root
    d_z = d_z.reshape(channels, h + 2 * ry, -1, j)[:, ry : ry + h, rx : rx + w]
    return sum_like(d_x, x), jnp.moveaxis(d_z, 0, 2) * root, None, d_s1, d_s2


def _next_forward(setting, k, t, s1, s2):
    return next_block(setting, k, t, s1, s2), (k, t, s1, s2)


def _next_backward(setting: Setting, saved, cotangents):
    k, t, s1, s2 = saved
    (h, w), (ry, rx) = setting.stage.size, setting.stage.radius
    j, flag = s2.shape[-1], true_flag(s2)
    shape = (1, 1, h + 2, (w + 2) * j)

    def operands(oy, ox):
        return [
            None if band is None else take(band, (ox, oy, 0, 0), shape)[0, 0] for band in (k, t)
        ]

    def convolve(planes):
        c = inner_box(planes[0], j) * setting.factor + setting.bias
        tangent = None if planes[1] is None else c + inner_box(planes[1], j) * setting.factor
        return c, tangent

    def finish(carry, _, planes, d_c, d_t):
        return carry, [None if d is None else padded_box(flag, d, j) for d in (d_c, d_t)]

    sides = Sides(operands, convolve, finish, ())
    _, out, d_s1, d_s2 = block_backward(setting, sides, s1, s2, *cotangents)
    on = inside((h, w), (ry, rx), s2.dtype) * setting.factor

    def framed(d):
        d = (d.reshape(2 * ry + 1, 2 * rx + 1, h, w, j) * on).swapaxes(0, 1)
        return frame(flatten_last(d), j)

    d_k, d_t = (None if d is None else framed(d) for d in out)
    return d_k, d_t, d_s1, d_s2


first_block.defvjp(_first_forward, _first_backward)
next_block.defvjp(_next_forward, _next_backward)
