"""Blocks on whole bands (whole.py) with their hand-written derivative, for accelerators.

The formulas are those of block_gradient.py; what is in front of every ReLU is kept rather than
computed again, since all of it lies in one tile, which jax.checkpoint makes again (tiles.py).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact import whole
from distill_cli.kernels.exact.block_gradient import relu_backward
from distill_cli.kernels.exact.chain import HALF_TURN, Setting
from distill_cli.kernels.exact.whole import (
    Maps,
    Source,
    box,
    convolve,
    on_image,
    pack,
    settle,
    shifts,
    unpack,
)

Bands = tuple[Array, Array | None]


def _phases(a: Array, axis: int) -> Array:
    """An axis of pooled offsets O (with one zero more on every side): (a, o), the pooled offset
    floor((o + a) / 2) at offset o of a pixel of phase a."""
    pooled = a.shape[axis] - 2
    twice = jnp.repeat(a, 2, axis)  # at o + a + 1, o from 0
    return shifts(jax.lax.slice_in_dim(twice, 1, 2 * pooled + 3, axis=a.ndim + axis), axis, 2)


def masked(cotangent: Array, setting: Setting) -> Array:
    """Cotangents of a band after the block, times the weight of what is between it and f."""
    stage, weight = setting.stage, HALF_TURN
    size, radius = stage.size, stage.radius
    if setting.pooled:
        size, radius, weight = stage.pooled_size, stage.pooled_radius, HALF_TURN / 16
    return cotangent * (on_image(size, radius, cotangent) * weight)


def upsampled(g: Array, setting: Setting) -> Array:
    """Masked cotangents at every offset and pixel before the pooling."""
    if not setting.pooled:
        return g
    g = jnp.pad(g, [(0, 0), (1, 1), (1, 1), (0, 0), (0, 0), (0, 0)])
    g = _phases(_phases(g, -5), -4)  # [r, a_y, oy, a_x, ox, P_y, P_x, j]
    r, _, ny, _, nx, h, w, j = g.shape
    g = jnp.transpose(g, (0, 2, 4, 5, 1, 6, 3, 7)).reshape(r, ny, nx, 2 * h, 2 * w, j)
    size = setting.stage.size
    rest = [(0, full - even) for full, even in zip(size, (2 * h, 2 * w), strict=True)]
    return jnp.pad(g, [(0, 0)] * 3 + [*rest, (0, 0)])


def _sum_first(d: Array, like: Array) -> Array:
    """Sum over offsets, and over the images of X2 where `like` (r, y, x, 1 or j) has one for all of
    them."""
    d = d.sum((1, 2))
    return d.sum(-1, keepdims=True) if like.shape[-1] == 1 else d


def _sum_partners(d: Array, radius: tuple[int, int], shape: tuple[int, ...]) -> Array:
    """The transpose of windows, and the sum over r: [r, oy, ox, y, x, j] -> (y, x, j)."""
    (found,) = jax.linear_transpose(
        lambda a: whole.windows(a, radius), jax.ShapeDtypeStruct(shape, d.dtype)
    )(d.sum(0))
    return found


def backward(setting: Setting, sources, s1: Maps, s2: Maps, g_k: Array, g_t: Array | None):
    """(dC and dT of the first convolution, in one by pack where there is a T; ds1, ds2) from the
    cotangents of K and T."""
    scales, exact = whole.block_scales(setting, s1, s2), whole.centre(setting)
    found = pack(masked(g_k, setting), None if g_t is None else masked(g_t, setting))
    last = True
    d_s1, d_s2 = [], []
    for scale, source, one, two in reversed(list(zip(scales, sources, s1, s2, strict=True))):

        def both(array, after, scale=scale, source=source, last=last):
            weight = setting.inner * HALF_TURN
            g, h = unpack(upsampled(after, setting) if last else box(after) * weight)
            c, t = convolve(source, setting.bias, array)
            d_c, d_s, d_t = relu_backward(
                c, t, g, h, scale.first_inverse, scale.second_inverse, exact
            )
            on = (scale.second > 0).astype(d_c.dtype)
            if d_t is None or source.kind == "images":
                return d_s, d_c * on
            return d_s, pack(d_c * on, d_t * on)

        # Three times the same: see settle.
        arrays, afters = settle((source.array,) * 3, (found,) * 3)
        (found,) = settle(both(arrays[0], afters[0])[1])
        d_s1.insert(0, _sum_first(both(arrays[1], afters[1])[0] * scale.second, one))
        partners = both(arrays[2], afters[2])[0] * scale.first
        d_s2.insert(0, _sum_partners(partners, setting.stage.radius, two.shape))
        last = False
    return found, tuple(d_s1), tuple(d_s2)


def _first(setting: Setting, x: Array, z: Array, s1: Maps, s2: Maps):
    scales = whole.block_scales(setting, s1, s2)
    sources = whole.sources(setting, whole.image_source(setting, x, z), scales)
    return whole.block(setting, sources[-1], scales[-1]), sources


def _next(setting: Setting, k: Array, t: Array | None, s1: Maps, s2: Maps):
    scales = whole.block_scales(setting, s1, s2)
    sources = whole.sources(setting, whole.band_source(setting, k, t), scales)
    return whole.block(setting, sources[-1], scales[-1]), sources


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def first_block(setting: Setting, x: Array, z: Array, s1: Maps, s2: Maps) -> Bands:
    """(K, T or None) of the first block: bands [r, oy, ox, y, x, j].

    x (r, c, y, x, 1 or j), z (c, y, x, j); s1 (r, y, x, 1 or j), s2 (y, x, j), of every ReLU.
    """
    return _first(setting, x, z, s1, s2)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def next_block(setting: Setting, k: Array, t: Array | None, s1: Maps, s2: Maps) -> Bands:
    """(K, T or None) of a later block, from and to bands; s1, s2 as above."""
    return _next(setting, k, t, s1, s2)[0]


def _first_forward(setting, x, z, s1, s2):
    bands, sources = _first(setting, x, z, s1, s2)
    return bands, (x, z, s1, s2, [source.array for source in sources])


def _with_arrays(setting: Setting, first: str, arrays: list[Array]) -> list[Source]:
    """The sources again from their arrays, which are all that a derivative may keep."""
    second = "difference" if first == "images" else "bands"
    return [
        Source(array, second if i else first, setting.inner if i else setting.factor)
        for i, array in enumerate(arrays)
    ]


def _first_backward(setting: Setting, saved, cotangents):
    x, z, s1, s2, arrays = saved
    radius = setting.stage.radius
    sources = _with_arrays(setting, "images", arrays)
    d_c, d_s1, d_s2 = backward(setting, sources, s1, s2, *cotangents)
    channels = range(z.shape[0])
    copies = settle(*(d_c,) * (2 * len(channels)))
    partners, images = whole.windows(z, radius)[:, None], x[:, :, None, None]
    d_x = [_sum_first(box(copies[2 * i]) * partners[i], x[:, i]) for i in channels]
    d_z = [
        _sum_partners(box(copies[2 * i + 1]) * images[:, i], radius, z[i].shape) for i in channels
    ]
    return jnp.stack(d_x, 1) * setting.factor, jnp.stack(d_z) * setting.factor, d_s1, d_s2


def _next_forward(setting, k, t, s1, s2):
    bands, sources = _next(setting, k, t, s1, s2)
    return bands, (s1, s2, [source.array for source in sources])


def _next_backward(setting: Setting, saved, cotangents):
    s1, s2, arrays = saved
    sources = _with_arrays(setting, "bands", arrays)
    found, d_s1, d_s2 = backward(setting, sources, s1, s2, *cotangents)
    on = on_image(setting.stage.size, setting.stage.radius, s2[0]) * setting.factor
    d_k, d_t = (None if d is None else d * on for d in unpack(box(found)))
    return d_k, d_t, d_s1, d_s2


first_block.defvjp(_first_forward, _first_backward)
next_block.defvjp(_next_forward, _next_backward)
