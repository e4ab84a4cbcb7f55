"""Exact NNGP and NTK of pooled ConvNets by offset bands.

For a pair of images (x, z) a ConvNet's kernel recursion lives on pairs of pixels (p, p'). Written as
(p, o) with o = p' - p, a convolution never mixes offsets and a 2x2 pooling halves them; the read-out
after Flatten needs o = 0 only. So going backwards from there, radius r before a pooling becomes
2 r + 1, and at 32x32 with three poolings the offsets |o| <= 7, 3, 1, 0 suffice: 225, 49, 9, 1 offset
maps instead of the 1024, 256, 64, 16 of the full covariance. Nothing is approximated.

Recursion (w^2, b^2 the weight and bias variances; NTK parametrisation, Novak et al. 2020), an entry
being 0 where p or p + o lies off the image:

    convolution   K <- b^2 + (w^2 / 9 c) sum_{d in 3x3} K(p + d, o),  T <- K + (w^2 / 9 c) sum_d T(p + d, o)
    ReLU          K <- s1(p) s2(p + o) f(cos) / (2 pi),  T <- T f'(cos) / (2 pi),
                  cos = K / (s1(p) s2(p + o)),  s^2 = the diagonal of each image
    pooling       K(P, O) <- 1/16 sum_{a, b in {0,1}^2} K(2 P + a, 2 O + b - a),  the same for T
    Flatten       mean over p of K(p, 0);   GlobalAvgPool  mean over all p, p'
    Dense         K <- b^2 + w^2 K,  T <- K + w^2 T

c is the number of image channels at the first layer, 1 later; T starts as 0. Blocks of [convolution,
ReLU, pooling] run in blocks.py, everything else in planes.py. One image of X1 at a time meets j images
of X2, which lie on the fastest axis.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture, Dense
from distill_cli.kernels.exact import blocks, gradient, planes
from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope, safe_sqrt
from distill_cli.kernels.exact.geometry import Stage, plan


class Scales(NamedTuple):
    """Square roots of the diagonals of a set of images, for every ReLU, images last.

    maps: per ReLU of the spatial part, (y, x, n).  vectors: per ReLU after Flatten, (n,).
    """

    maps: tuple[Array, ...]
    vectors: tuple[Array, ...]


class Columns(NamedTuple):
    """What the images of X2 need once per tile, in the layout of blocks.py."""

    images: Array
    rows: Array | None
    scales: Scales


def _factors(architecture: Architecture) -> tuple[float, float]:
    return architecture.weight_variance / 9, architecture.bias_variance


def prepare_columns(architecture: Architecture, z: Float[Array, "y x c j"], scales: Scales):
    """Columns of the images z with their scales (the latter may be filled in later)."""
    design = plan(architecture, z.shape[:2])
    if not design.blocks():
        return Columns(z, None, scales)
    stage = design.stages[1]
    root = math.sqrt(_factors(architecture)[0] / z.shape[2])
    return Columns(z, blocks.image_rows(z * root, stage, stage.pooled_radius[1] + 1), scales)


def _self_scale(band, stage: Stage, factor: float, bias: float, j: int) -> Array:
    """Square root of the diagonal of the convolved band of pairs (x, x), offset 0: (y, x, j)."""
    (ry, rx), (h, w) = stage.radius, stage.size
    centre = blocks.unframe(band[rx, ry][None, None], j).reshape(h, w, j)
    return safe_sqrt(bias + factor * planes.box(centre))


def _run_blocks(architecture, x, columns: Columns, scales1: Scales | None, ntk: bool):
    """Leading blocks of the plan: (K, T, scale maps found), bands [ox, oy, y, x * j]."""
    design = plan(architecture, x.shape[:2])
    factor, bias = _factors(architecture)
    channels, j = x.shape[2], columns.images.shape[-1]
    same = scales1 is None
    maps = []
    k, t = None, None
    for block in range(design.blocks()):
        stage = design.stages[2 * block + 1]
        if same and block == 0:
            energy = planes.box((x * x).sum(2)) * (factor / channels)
            s1 = s2 = safe_sqrt(bias + energy)
        elif same:
            s1 = s2 = _self_scale(k, stage, factor, bias, j)
        else:
            s1, s2 = scales1.maps[block], columns.scales.maps[block]
        maps.append(s1)
        if block == 0:
            setting = gradient.Setting(stage, factor / channels, bias, ntk, same)
            k, t = gradient.first_block(setting, x, columns.images, columns.rows, s1, s2)
        else:
            setting = gradient.Setting(stage, factor, bias, ntk, same)
            k, t = gradient.next_block(setting, k, t, s1, s2)
    return k, t, maps


def _relu_vectors(k, t, s, exact: bool):
    cosine = jnp.where(s > 0, k / jnp.where(s > 0, s, 1), 0)
    if exact:
        cosine = jnp.where(s > 0, 1.0, 0.0).astype(k.dtype)
    k = s * relu_dual(cosine) * (1 / (2 * math.pi))
    return k, None if t is None else t * relu_dual_slope(cosine) * (1 / (2 * math.pi))


def pair_kernels(architecture, x, columns: Columns, scales1: Scales | None, ntk: bool = True):
    """(NNGP, NTK or None, scales) of one image x (y, x, c, 1) with the images of columns, each (j,).

    scales1 None: x holds the images of columns themselves, (y, x, c, j); the result is every image
    with itself, with cos = 1 set exactly where it is so by definition, and the scales are found.
    """
    same = scales1 is None
    size, j = x.shape[:2], columns.images.shape[-1]
    w2, b2 = architecture.weight_variance, architecture.bias_variance
    design = plan(architecture, size)
    done = design.blocks()
    vectors = []
    if not design.stages:
        k, t, maps = (x * columns.images).mean((0, 1, 2)), None, []
    else:
        k, t, maps = _run_blocks(architecture, x, columns, scales1, ntk)
        rest = design.stages[2 * done :]
        if rest:
            k, t = (None if band is None else blocks.unframe(band, j) for band in (k, t))
            k, t, more = planes.run(
                architecture, rest, x, columns.images, k, t,
                None if same else scales1.maps[done:], columns.scales.maps[done:], ntk,
            )  # fmt: skip
            maps = maps + more
        h, w = design.stages[-1].size
        if "pool" in design.stages[-1].kind:
            h, w = h // 2, w // 2
        weight = 1 / (h * w) ** 2 if design.total else 1 / (h * w)

        def mean(band):
            return band.reshape(-1, j).sum(0) * weight

        k, t = mean(k), None if t is None else mean(t)
    for layer in (*design.head, Dense(1)):
        if isinstance(layer, Dense):
            k = b2 + w2 * k
            t = None if not ntk else k if t is None else k + w2 * t
        else:
            s1 = s2 = safe_sqrt(k)
            if not same:
                s1, s2 = scales1.vectors[len(vectors)], columns.scales.vectors[len(vectors)]
            vectors.append(s1)
            k, t = _relu_vectors(k, t, s1 * s2, same)
    return k, t, Scales(tuple(maps), tuple(vectors))


@functools.cache
def _options() -> dict:
    """Compiler options on CPU: 512-bit vectors (XLA's default is 256); no splitting of an operation
    over threads, since gram() gives every thread a tile. Options that this XLA lacks are left out."""
    if jax.default_backend() != "cpu":
        return {}
    wanted = {
        "xla_cpu_prefer_vector_width": 512,
        "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
        "xla_cpu_enable_concurrency_optimized_scheduler": False,
    }
    accepted = {}
    for name, value in wanted.items():
        try:
            jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(0.0).compile()
        except (RuntimeError, ValueError):
            continue
        accepted[name] = value
    return accepted


def compiled(function):
    """jit for this engine; the first two arguments are static."""
    return jax.jit(function, static_argnums=(0, 1), compiler_options=_options())


def _self_kernels(architecture, get, x):
    z = jnp.moveaxis(x, 0, -1)
    columns = prepare_columns(architecture, z, Scales((), ()))
    return pair_kernels(architecture, z, columns, None, True)


def _tile(architecture, get, count, x1, scales1, x2, scales2):
    columns = prepare_columns(architecture, jnp.moveaxis(x2, 0, -1), scales2)

    def row(i, out):
        x = jax.lax.dynamic_index_in_dim(x1, i, keepdims=False)
        scales = jax.tree.map(lambda s: jax.lax.dynamic_slice_in_dim(s, i, 1, -1), scales1)
        k, t, _ = pair_kernels(architecture, x[..., None], columns, scales, "ntk" in get)
        found = {"nngp": k, "ntk": t}
        return tuple(
            jax.lax.dynamic_update_index_in_dim(block, found[name], i, 0)
            for name, block in zip(get, out, strict=True)
        )

    empty = jnp.zeros((len(x1), len(x2)), x2.dtype)
    return jax.lax.fori_loop(0, count, row, (empty,) * len(get))


@functools.cache
def _compiled():
    return compiled(_self_kernels), compiled(_tile)


def self_kernels(architecture: Architecture, x: Float[Array, "n y x c"]):
    """(NNGP, NTK, scales) of every image with itself; cos = 1 exactly where it is so by definition."""
    return _compiled()[0](architecture, (), x)


def tile(architecture: Architecture, get, count: int, x1, scales1: Scales, x2, scales2: Scales):
    """The kernels in get, each (len(x1), len(x2)), of the first count images of x1; other rows are 0."""
    return _compiled()[1](architecture, get, np.int32(count), x1, scales1, x2, scales2)


def compiled_tile(architecture: Architecture, get, count: int, *operands):
    """The compiled tile(), for its memory analysis."""
    return _compiled()[1].lower(architecture, get, np.int32(count), *operands).compile()


ROWS = 16  # images of X1 per call: enough to hide the call's cost


def tile_columns(image_shape: tuple[int, int, int], dtype: np.dtype) -> int:
    """Images of X2 per tile: what keeps a row of pooled columns at a few hundred numbers, so that the
    operands of one row pair fit into the level-2 cache (measured on 8x8 to 64x64 images)."""
    columns = int(np.clip(512 // image_shape[1], 16, 64)) // 8 * 8
    return columns * 4 // np.dtype(dtype).itemsize


def band_gram(
    architecture: Architecture,
    x1: Float[Array, "n1 y x c"],
    x2: Float[Array, "n2 y x c"] | None = None,
) -> tuple[Float[Array, "n1 n2"], Float[Array, "n1 n2"]]:
    """(NNGP, NTK) for use inside jit and grad: differentiable in both sets, in their dtype.

    x2 None: K(x1, x1), its diagonal each image with itself. Memory is that of one tile besides the
    sets and the results, backward too: tiles are recomputed there.
    """
    z = x1 if x2 is None else x2
    if len(x1) > len(z):
        nngp, ntk = band_gram(architecture, z, x1)
        return nngp.T, ntk.T
    width = tile_columns(x1.shape[1:], x1.dtype)

    def cut(x):  # -> (tiles, y, x, c, width), zeros at the end
        x = jnp.pad(x, ((0, -len(x) % width), (0, 0), (0, 0), (0, 0)))
        return jnp.moveaxis(x.reshape(-1, width, *x.shape[1:]), 1, -1)

    @jax.checkpoint
    def alone(tile):
        columns = prepare_columns(architecture, tile, Scales((), ()))
        return pair_kernels(architecture, tile, columns, None)

    def joined(s):  # (tiles, ..., width) -> (tiles * width, ...)
        return jnp.moveaxis(s, -1, 1).reshape(-1, *s.shape[1:-1])

    tiles = cut(z)
    k_self, t_self, scales2 = jax.lax.map(alone, tiles)
    scales1 = scales2 if x2 is None else jax.lax.map(alone, cut(x1))[2]
    scales1 = jax.tree.map(lambda s: joined(s)[: len(x1)], scales1)

    @jax.checkpoint
    def pair(columns, x, scales):
        scales = jax.tree.map(lambda s: s[..., None], scales)
        return pair_kernels(architecture, x[..., None], columns, scales)[:2]

    def block(arguments):
        columns = prepare_columns(architecture, *arguments)
        return jax.lax.map(lambda row: pair(columns, *row), (x1, scales1))

    nngp, ntk = jax.lax.map(block, (tiles, scales2))  # (tiles, n1, width)
    nngp, ntk = (jnp.moveaxis(k, 0, 1).reshape(len(x1), -1)[:, : len(z)] for k in (nngp, ntk))
    if x2 is None:
        on = jnp.eye(len(x1), dtype=bool)
        nngp, ntk = (
            jnp.where(on, joined(own)[None, : len(x1)], k)
            for k, own in ((nngp, k_self), (ntk, t_self))
        )
    return nngp, ntk
