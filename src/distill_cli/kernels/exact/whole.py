"""A block [convolution, ReLU] x k and perhaps pooling on whole bands of many pairs at once.

The form for accelerators, where a kernel's launch costs as much as a million entries and only
arrays that are written between kernels cost memory traffic: all offsets and pixels of r images of
X1 times j of X2 are one array

    band [r, oy, ox, y, x, j],    K(p, p + o) of every pair, 0 where p + o is off the image

and every step reads what it needs from where it is (a gather), so that the compiler makes one pass
of it. `settle` marks what is worth writing out. The recursion is that of band.py; chain.py does the
same offset by offset for the caches of a CPU.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope
from distill_cli.kernels.exact.chain import HALF_TURN, Setting
from distill_cli.kernels.exact.layout import reciprocal
from distill_cli.kernels.exact.planes import inside

Maps = tuple[Array, ...]


class Scale(NamedTuple):
    """s and 1 / s (0 where s is 0) of one ReLU as they meet a band: first [r, 1, 1, y, x, 1 or j],
    second [1, oy, ox, y, x, j], that of the partner."""

    first: Array
    first_inverse: Array
    second: Array
    second_inverse: Array


def settle(*arrays: Any) -> Any:
    """The arrays, written out once rather than computed again inside each of their users. The same
    array given twice comes back as two that the compiler takes for different ones: what is computed
    from each has one user then, and is computed inside it."""
    return jax.lax.optimization_barrier(arrays)


def pack(a: Array, b: Array | None) -> Array:
    """Two real arrays as one complex one, so that one kernel makes both; a where there is no b."""
    return a if b is None else jax.lax.complex(a, b)


def unpack(a: Array) -> tuple[Array, Array | None]:
    if jnp.iscomplexobj(a):
        return jax.lax.real(a), jax.lax.imag(a)
    return a, None


def shifts(a: Array, axis: int, count: int) -> Array:
    """The axis (negative), n long, becomes (shift, position): a[shift + position], count shifts of
    n - count + 1 positions.

    count copies in a row, read in rows that are one longer: the shift comes from reshapes, which
    compile to index arithmetic and not to a gather.
    """
    axis += a.ndim
    before, n, after = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    copies = jnp.broadcast_to(jnp.expand_dims(a, axis), (*before, count, n, *after))
    flat = copies.reshape(*before, count * n, *after)
    flat = jnp.pad(flat, [(0, count if k == axis else 0) for k in range(flat.ndim)])
    rows = flat.reshape(*before, count, n + 1, *after)
    return jax.lax.slice_in_dim(rows, 0, n - count + 1, axis=axis + 1)


def windows(a: Array, radius: tuple[int, int]) -> Array:
    """[..., y, x, j] -> [..., oy, ox, y, x, j]: a at p + o, 0 off the image."""
    ry, rx = radius
    a = jnp.pad(a, [(0, 0)] * (a.ndim - 3) + [(ry, ry), (rx, rx), (0, 0)])
    a = shifts(shifts(a, -3, 2 * ry + 1), -2, 2 * rx + 1)
    return jnp.moveaxis(a, -3, -4)


def box(band: Array) -> Array:
    """Sum over the 3x3 neighbourhood of p, zero padding, as one sum of nine: no row sums to write
    out."""
    h, w = band.shape[-3:-1]
    band = jnp.pad(band, [(0, 0)] * (band.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    parts = [band[..., y : y + h, x : x + w, :] for y in range(3) for x in range(3)]
    return functools.reduce(jnp.add, parts)


def on_image(size: tuple[int, int], radius: tuple[int, int], like: Array) -> Array:
    """[1, oy, ox, y, x, 1]: 1 where p + o lies on the image; in the type of `like`."""
    return inside(size, radius, like.dtype)[None]


def block_scales(setting: Setting, s1: Maps, s2: Maps) -> list[Scale]:
    """Scale of every ReLU; s1 (r, y, x, 1 or j), s2 (y, x, j)."""
    found = []
    for one, two in zip(s1, s2, strict=True):
        first = (a[:, None, None] for a in (one, reciprocal(one)))
        second = (windows(a, setting.stage.radius)[None] for a in (two, reciprocal(two)))
        found.append(Scale(*first, *second))
    return found


def centre(setting: Setting) -> Array | None:
    """True at offset 0 where the pairs are (x, x); else None."""
    if not setting.same:
        return None
    ry, rx = setting.stage.radius
    on = jnp.zeros((2 * ry + 1, 2 * rx + 1), bool).at[ry, rx].set(True)
    return on.reshape(1, *on.shape, 1, 1, 1)


def relu(setting: Setting, scale: Scale, c: Array, t: Array | None) -> tuple[Array, Array | None]:
    """(K, T) after a ReLU on C and T; where T = C, given as None, K - T = s sqrt(1 - cos^2) / (2
    pi) instead of T; None without the NTK."""
    cosine = c * (scale.first_inverse * scale.second_inverse)
    s = scale.first * scale.second
    exact = centre(setting)
    if exact is not None:
        cosine = jnp.where(exact, jnp.sign(s), cosine)
    k = relu_dual(cosine) * s * HALF_TURN
    if not setting.ntk:
        return k, None
    if t is None:
        return k, jax.lax.sqrt(jnp.maximum(1 - cosine * cosine, 0)) * s * HALF_TURN
    # A product, since zeros to select would be a band that JAX takes out of the loop over tiles.
    on = (s > 0).astype(t.dtype)
    return k, t * relu_dual_slope(cosine) * (on * HALF_TURN)


def pool(band: Array) -> Array:
    """2x2 average pooling of both images, sums of 16; every entry of the band is read at most
    once."""
    ny, nx, h, w = band.shape[-5:-1]
    (uy, ux), (hh, ww) = ((ny - 1) // 2, (nx - 1) // 2), (h // 2, w // 2)
    total: Any = None
    for ay, by, ax, bx in itertools.product((0, 1), repeat=4):
        oy, ox = 1 + by - ay, 1 + bx - ax
        part = band[
            ...,
            oy : oy + 2 * uy - 1 : 2,
            ox : ox + 2 * ux - 1 : 2,
            ay : 2 * hh : 2,
            ax : 2 * ww : 2,
            :,
        ]
        total = part if total is None else total + part
    return total


class Source(NamedTuple):
    """What a convolution makes C and T of, written out and kept for the derivative.

    array: products of pixels (kind "images": T = C), or K and T ("bands"), or K and K - T
    ("difference"), two in one by pack. factor: of the convolution.
    """

    array: Array
    kind: str
    factor: float


def convolve(source: Source, bias: float, array: Array) -> tuple[Array, Array | None]:
    """(C, T or None where T = C or there is none); array: source.array or a copy by settle."""
    k, t = unpack(box(array))
    c = source.factor * k
    if t is not None:
        t = source.factor * t
        t = bias + c + (c - t if source.kind == "difference" else t)
    return bias + c, t


def sources(setting: Setting, first: Source, scales: list[Scale]) -> list[Source]:
    """The source of every convolution of the block."""
    found = [first]
    for scale in scales[:-1]:
        (array,) = settle(pack(*relu(setting, scale, *_convolved(setting, found[-1]))))
        kind = "difference" if found[-1].kind == "images" else "bands"
        found.append(Source(array, kind, setting.inner))
    return found


def _convolved(setting: Setting, source: Source) -> tuple[Array, Array | None]:
    return convolve(source, setting.bias, source.array)


def block(setting: Setting, last: Source, scale: Scale) -> tuple[Array, Array | None]:
    """(K, T or None), bands after the block, from the source of its last convolution."""
    band = pack(*relu(setting, scale, *_convolved(setting, last)))
    (band,) = settle(pool(band) if setting.pooled else band)
    k, t = unpack(band)
    if setting.pooled:
        # an odd last row or column is no pixel after pooling, but was a partner before it
        on = on_image(setting.stage.pooled_size, setting.stage.pooled_radius, k) * (1 / 16)
        k, t = k * on, None if t is None else t * on
    return k, k - t if t is not None and last.kind == "images" else t


def image_source(setting: Setting, x: Array, z: Array) -> Source:
    """Products of images x [r, c, y, x, 1 or j] and z [c, y, x, j], at all offsets."""
    partners, first = windows(z, setting.stage.radius)[:, None], x[:, :, None, None]
    (products,) = settle(sum(first[:, i] * partners[i] for i in range(z.shape[0])))
    return Source(products, "images", setting.factor)


def band_source(setting: Setting, k: Array, t: Array | None) -> Source:
    """Bands of the block before."""
    return Source(pack(k, t), "bands", setting.factor)
