"""The blocks of the band engine with their hand-written derivatives (block_gradient.py).

A block of one convolution with pooling runs forward in first_block.py or next_block.py, every
other in chain.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distill_cli.kernels.exact import first_block as first
from distill_cli.kernels.exact import next_block as later
from distill_cli.kernels.exact.block_gradient import block_backward, padded_box, sum_like
from distill_cli.kernels.exact.chain import (
    Setting,
    Source,
    chain_block,
    inner_box,
    put,
    take,
    to_planes,
    true_flag,
)
from distill_cli.kernels.exact.layout import flatten_last, frame, materialise
from distill_cli.kernels.exact.planes import inside

Bands = tuple[Array, Array | None]
Maps = tuple[Array, ...]


def _image_source(setting: Setting, x: Array, z: Array) -> tuple[Source, Array]:
    """(source of a block of images, planes of x with its margin), both times the root of
    factor."""
    (ry, rx), margin = setting.stage.radius, setting.convs
    root, flag, (channels, j) = setting.factor**0.5, true_flag(z[0, 0, 0] ** 2), z.shape[2:]
    framed = to_planes(jnp.broadcast_to(x * root, z.shape), (margin, margin))
    partners = to_planes(z * root, (ry + margin, rx + margin))

    def products(a):  # a plain sum: XLA's CPU compiler does not vectorise a reduction over channels
        return sum(framed[i] * a[i] for i in range(channels))

    def convolve(partner):
        plane = materialise(flag, products, partner)
        return materialise(flag, lambda a: inner_box(a, j) + setting.bias, plane), None

    def operands(oy, ox):
        return take(partners, (0, oy, ox * j), framed.shape)

    return Source(operands, convolve), framed


def _band_source(setting: Setting, k: Array, t: Array | None, j: int) -> Source:
    """Source of a block whose input is framed bands."""
    (h, w), margin = setting.stage.size, setting.convs
    more = ((0, 0), (0, 0), (margin - 1,) * 2, ((margin - 1) * j,) * 2)
    bands = [None if band is None else jnp.pad(band, more) for band in (k, t)]
    shape = (1, 1, h + 2 * margin, (w + 2 * margin) * j)
    flag = k[0, 0, 0, 0] == 0

    def operands(oy, ox):
        return [None if band is None else take(band, (ox, oy, 0, 0), shape)[0, 0] for band in bands]

    def boxes(k, t=None):
        c = inner_box(k, j) * setting.factor + setting.bias
        return c, None if t is None else c + inner_box(t, j) * setting.factor

    return Source(operands, lambda planes: materialise(flag, boxes, *planes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def first_block(
    setting: Setting, x: Array, z: Array, rows: Array | None, s1: Maps, s2: Maps
) -> Bands:
    """(K, T or None) of the first block, framed bands [ox, oy, y, x * j] (layout.py).

    x (y, x, c, 1 or j), z (y, x, c, j), rows: z by first_block.image_rows, which a single
    convolution with pooling reads (not differentiated; z is); s1 (y, x, 1 or j), s2 (y, x, j), of
    every ReLU.
    """
    stage, j = setting.stage, z.shape[-1]
    if rows is None:
        return chain_block(setting, _image_source(setting, x, z)[0], s1, s2)
    wide = jnp.broadcast_to(x * setting.factor**0.5, (*x.shape[:3], j))
    return first.first_block(
        first.image_rows(wide, stage, 0),
        rows,
        first.scale_rows(jnp.broadcast_to(s1[0], s2[0].shape), stage, None),
        first.scale_rows(s2[0], stage, stage.pooled_radius[1]),
        stage, setting.bias, j, setting.ntk, setting.same,
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def next_block(setting: Setting, k: Array, t: Array | None, s1: Maps, s2: Maps) -> Bands:
    """(K, T or None) of a later block, from and to framed bands; s1, s2 as above."""
    stage, j = setting.stage, s2[0].shape[-1]
    if setting.convs > 1 or not setting.pooled:
        return chain_block(setting, _band_source(setting, k, t, j), s1, s2)
    (ry, rx), exact = stage.pooled_radius, None
    if setting.same:
        exact = np.zeros((2 * rx + 1, 2 * ry + 1, 1, 1), bool)
        exact[rx, ry] = True
    one, two = jnp.broadcast_to(s1[0], s2[0].shape), s2[0]
    return later.next_block(
        k, t, lambda: later.band_scales(one, two, stage), stage,
        setting.factor, setting.bias, j, true_flag(two), exact,
    )  # fmt: skip


def _first_forward(setting, x, z, rows, s1, s2):
    return first_block(setting, x, z, rows, s1, s2), (x, z, s1, s2)


def _first_backward(setting: Setting, saved, cotangents):
    x, z, s1, s2 = saved
    (h, w), (ry, rx), margin = setting.stage.size, setting.stage.radius, setting.convs
    channels, j = z.shape[2:]
    root, flag = setting.factor**0.5, true_flag(s2[0])
    source, framed = _image_source(setting, x, z)

    def crop(planes):
        return planes[:, margin:-margin, margin * j : -margin * j]

    centre = crop(framed)

    def finish(carry, offset, partner, d_c, _):
        d_x, d_z = carry
        at = (0, offset[0], offset[1] * j)
        d_e = materialise(flag, lambda a: padded_box(flag, a, j), d_c)[None]
        old = materialise(flag, lambda a: take(a, at, centre.shape), d_z)
        new = materialise(flag, lambda: old + d_e * centre)
        return (d_x + d_e * crop(partner), put(d_z, new, at)), None

    start = (
        jnp.zeros_like(centre),
        jnp.zeros((channels, h + 2 * ry, (w + 2 * rx) * j), z.dtype),
    )
    (d_x, d_z), _, d_s1, d_s2 = block_backward(setting, source, finish, start, s1, s2, *cotangents)
    d_x = jnp.moveaxis(d_x.reshape(channels, h, w, j), 0, 2) * root
    d_z = d_z.reshape(channels, h + 2 * ry, -1, j)[:, ry : ry + h, rx : rx + w]
    return sum_like(d_x, x), jnp.moveaxis(d_z, 0, 2) * root, None, d_s1, d_s2


def _next_forward(setting, k, t, s1, s2):
    return next_block(setting, k, t, s1, s2), (k, t, s1, s2)


def _next_backward(setting: Setting, saved, cotangents):
    k, t, s1, s2 = saved
    (h, w), (ry, rx) = setting.stage.size, setting.stage.radius
    j, flag = s2[0].shape[-1], true_flag(s2[0])

    def finish(carry, _, planes, d_c, d_t):
        return carry, [None if d is None else padded_box(flag, d, j) for d in (d_c, d_t)]

    source = _band_source(setting, k, t, j)
    _, out, d_s1, d_s2 = block_backward(setting, source, finish, (), s1, s2, *cotangents)
    on = inside((h, w), (ry, rx), s2[0].dtype) * setting.factor

    def framed(d):
        d = (d.reshape(2 * ry + 1, 2 * rx + 1, h, w, j) * on).swapaxes(0, 1)
        return frame(flatten_last(d), j)

    d_k, d_t = (None if d is None else framed(d) for d in out)
    return d_k, d_t, d_s1, d_s2


first_block.defvjp(_first_forward, _first_backward)
next_block.defvjp(_next_forward, _next_backward)
