"""Exact NNGP and NTK of pooled ConvNets by offset bands.

For a pair of images (x, z) a ConvNet's kernel recursion lives on pairs of pixels (p, p'). Written as
(p, o) with o = p' - p, a convolution never mixes offsets and a 2x2 pooling halves them; the read-out
after Flatten needs o = 0 only. So going backwards from there, radius r before a pooling becomes
2 r + 1, and at 32x32 with three poolings the offsets |o| <= 7, 3, 1, 0 suffice: 225, 49, 9, 1 offset
maps instead of the 1024, 256, 64, 16 of the full covariance. Everything is exact; no approximation.

Layout of a band: K[oy, ox, y, x, j], offset, pixel, and j = images of X2 on the fastest axis; one image
of X1 at a time, in a loop. An entry is 0 where the pixel p or p + o lies off the image.

Recursion (w^2, b^2 the weight and bias variances; NTK parametrisation, Novak et al. 2020):

    convolution   K <- b^2 + (w^2 / 9 c) sum_{d in 3x3} K(p + d, o);   T <- K + (w^2 / 9 c) sum_d T(p + d, o)
    ReLU          K <- s1(p) s2(p + o) f(cos) / (2 pi),  T <- T f'(cos) / (2 pi),
                  cos = K / (s1(p) s2(p + o)),  s^2 = diagonal of each image
    pooling       K(P, O) <- 1/16 sum_{a, b in {0,1}^2} K(2 P + a, 2 O + b - a),  the same for T
    Flatten       mean over p of K(p, 0);   GlobalAvgPool  mean over all p, p'
    Dense         K <- b^2 + w^2 K,  T <- K + w^2 T
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
)
from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope


class Stage(NamedTuple):
    """One spatial operation: its kind, and the sizes and offset radii (y, x) of its input."""

    kind: str  # "conv", "relu", "pool", "relu_pool"
    size: tuple[int, int]
    radius: tuple[int, int]


def split_layers(architecture: Architecture) -> tuple[list, object, list]:
    """(spatial layers, the layer that ends them or None, layers on vectors)."""
    layers = list(architecture.layers)
    for index, layer in enumerate(layers):
        if isinstance(layer, Flatten | GlobalAvgPool):
            return layers[:index], layer, [
                layer for layer in layers[index + 1 :] if not isinstance(layer, Flatten)
            ]
    return layers, None, []


def stages(architecture: Architecture, size: tuple[int, int]) -> list[Stage]:
    """The spatial layers with sizes forwards and radii backwards; ReLU and pooling joined."""
    trunk, end, _ = split_layers(architecture)
    kinds: list[str] = []
    for layer in trunk:
        match layer:
            case Conv():
                kinds.append("conv")
            case Relu():
                kinds.append("relu")
            case AvgPool() if kinds and kinds[-1] == "relu":
                kinds[-1] = "relu_pool"
            case AvgPool():
                kinds.append("pool")
    sizes = [size]
    for kind in kinds:
        h, w = sizes[-1]
        sizes.append((h // 2, w // 2) if "pool" in kind else (h, w))
    last = sizes[-1]
    radius = (last[0] - 1, last[1] - 1) if isinstance(end, GlobalAvgPool) else (0, 0)
    plan = []
    for kind, shape in zip(reversed(kinds), reversed(sizes[:-1]), strict=True):
        if "pool" in kind:
            radius = (2 * radius[0] + 1, 2 * radius[1] + 1)
        plan.append(Stage(kind, shape, radius))
    return plan[::-1]


def windows(a: Float[Array, "y x ..."], radius: tuple[int, int]) -> Array:
    """[oy, ox, y, x, ...]: a shifted by every offset of the band, 0 off the image."""
    (ry, rx), (h, w) = radius, a.shape[:2]
    padded = jnp.pad(a, ((ry, ry), (rx, rx), *((0, 0),) * (a.ndim - 2)))

    def at(oy, ox):
        return jax.lax.dynamic_slice(padded, (oy, ox, *(0,) * (a.ndim - 2)), a.shape)

    return jax.vmap(jax.vmap(at, (None, 0)), (0, None))(
        jnp.arange(2 * ry + 1), jnp.arange(2 * rx + 1)
    )


def box(k: Float[Array, "oy ox y x j"]) -> Array:
    """Sum over the 3x3 neighbourhood of p at fixed offset."""
    h, w = k.shape[2:4]
    padded = jnp.pad(k, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :, 0:h] + padded[:, :, 1 : h + 1] + padded[:, :, 2 : h + 2]
    return rows[:, :, :, 0:w] + rows[:, :, :, 1 : w + 1] + rows[:, :, :, 2 : w + 2]


def pool(k: Float[Array, "oy ox y x j"]) -> Array:
    """2x2 average pooling of both images: 16 combinations (a, b) of weight 1/16."""
    ny, nx, h, w, _ = k.shape
    uy, ux, hh, ww = (ny - 1) // 2, (nx - 1) // 2, h // 2, w // 2
    total = 0
    for ay in (0, 1):
        for by in (0, 1):
            for ax in (0, 1):
                for bx in (0, 1):
                    oy, ox = 1 + by - ay, 1 + bx - ax
                    total += k[
                        oy : oy + 2 * uy - 1 : 2,
                        ox : ox + 2 * ux - 1 : 2,
                        ay : 2 * hh : 2,
                        ax : 2 * ww : 2,
                    ]
    return total * (1 / 16)


def inside(size: tuple[int, int], radius: tuple[int, int], dtype) -> Array:
    """[oy, ox, y, x, 1]: 1 where p + o lies on the image."""
    return windows(jnp.ones((*size, 1), dtype), radius)


class Scales(NamedTuple):
    """Square roots of the diagonals of a set of images, for every ReLU, images last.

    maps: per ReLU of the trunk, (y, x, n).  vectors: per ReLU after Flatten, (n,).
    """

    maps: tuple[Array, ...]
    vectors: tuple[Array, ...]


def _relu(k, t, s, exact=None):
    """(K, T) after a ReLU; s = s1 s2; exact marks entries whose correlation is 1 by definition."""
    cosine = jnp.where(s > 0, k / jnp.where(s > 0, s, 1), 0)
    if exact is not None:
        cosine = jnp.where(exact & (s > 0), 1, cosine)
    k = s * relu_dual(cosine) * (1 / (2 * math.pi))
    return k, None if t is None else t * relu_dual_slope(cosine) * (1 / (2 * math.pi))


def pair_kernels(architecture, size, x1, x2, scales1=None, scales2=None):
    """(NNGP, NTK, scales) of one image x1 (y, x, c, 1) with images x2 (y, x, c, j); both (j,).

    Without scales x1 must equal x2: the kernels of every image with itself, and its scales.
    """
    same = scales1 is None
    w2, b2 = architecture.weight_variance, architecture.bias_variance
    _, end, head = split_layers(architecture)
    plan = stages(architecture, size)
    channels = x1.shape[2]
    if plan:
        k = (x1 * windows(x2, plan[0].radius)).sum(4) / channels
    else:
        k = (x1 * x2).mean((0, 1, 2))
    t = None
    maps, vectors = [], []
    for stage in plan:
        mask = inside(stage.size, stage.radius, k.dtype)
        if stage.kind == "conv":
            k = mask * (b2 + (w2 / 9) * box(k))
            t = k if t is None else k + mask * ((w2 / 9) * box(t))
        if "relu" in stage.kind:
            exact = None
            if same:
                ry, rx = stage.radius
                s1 = s2 = jnp.sqrt(k[ry, rx])
                exact = jnp.zeros(k.shape, bool).at[ry, rx].set(True)
            else:
                s1, s2 = scales1.maps[len(maps)], scales2.maps[len(maps)]
            maps.append(s1)
            k, t = _relu(k, t, s1 * windows(s2, stage.radius), exact)
        if "pool" in stage.kind:
            k = pool(k)
            mask = inside(k.shape[2:4], (k.shape[0] // 2, k.shape[1] // 2), k.dtype)
            k, t = mask * k, None if t is None else mask * pool(t)
    if plan:
        pixels = k.shape[2] * k.shape[3]
        scale = 1 / pixels**2 if isinstance(end, GlobalAvgPool) else 1 / pixels
        k = k.sum((0, 1, 2, 3)) * scale
        t = None if t is None else t.sum((0, 1, 2, 3)) * scale
    for layer in [*head, Dense(1)]:
        if isinstance(layer, Dense):
            k = b2 + w2 * k
            t = k if t is None else k + w2 * t
        else:
            s1 = s2 = jnp.sqrt(k)
            if not same:
                s1, s2 = scales1.vectors[len(vectors)], scales2.vectors[len(vectors)]
            vectors.append(s1)
            k, t = _relu(k, t, s1 * s2, True if same else None)
    return k, t, Scales(tuple(maps), tuple(vectors))


@functools.partial(jax.jit, static_argnums=0)
def self_kernels(architecture: Architecture, x: Float[Array, "n y x c"]):
    """(NNGP, NTK, scales) of every image with itself; cos = 1 exactly where it is so by definition."""
    x = jnp.moveaxis(x, 0, -1)
    return pair_kernels(architecture, x.shape[:2], x, x)


def tile_shape(architecture, image_shape, n1, n2, memory_mb, dtype) -> tuple[int, int]:
    """(images of X1, images of X2) per tile."""
    plan = stages(architecture, image_shape[:2])
    entries = 1
    if plan:
        (h, w), (ry, rx) = plan[0].size, plan[0].radius
        entries = h * w * (2 * ry + 1) * (2 * rx + 1)
    per_column = 4 * entries * np.dtype(dtype).itemsize / 2**20
    columns = 64
    while columns > 8 and (columns * per_column > memory_mb or columns >= 2 * n2):
        columns //= 2
    return min(16, n1), columns


@functools.partial(jax.jit, static_argnums=(0, 1))
def tile(architecture: Architecture, get, x1, scales1: Scales, x2, scales2: Scales):
    """The kernels in get, each (n1, n2): a loop over x1 with x2 on the fast axis."""
    z = jnp.moveaxis(x2, 0, -1)

    def row(arguments):
        x, scales = arguments
        scales = jax.tree.map(lambda s: s[..., None], scales)
        k, t, _ = pair_kernels(architecture, z.shape[:2], x[..., None], z, scales, scales2)
        return tuple({"nngp": k, "ntk": t}[name] for name in get)

    rows = jax.tree.map(lambda s: jnp.moveaxis(s, -1, 0), scales1)
    return jax.lax.map(row, (x1, rows))
