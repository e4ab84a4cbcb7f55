"""Exact NNGP and NTK of pooled ConvNets by offset bands.

For a pair of images (x, z) a ConvNet's kernel recursion lives on pairs of pixels (p, p'). Written
as (p, o) with o = p' - p, a convolution never mixes offsets and a 2x2 pooling halves them; the
read-out after Flatten needs o = 0 only. So going backwards from there, radius r before a pooling
becomes 2 r + 1, and at 32x32 with three poolings the offsets |o| <= 7, 3, 1, 0 suffice: 225, 49,
9, 1 offset maps instead of the 1024, 256, 64, 16 of the full covariance. Nothing is approximated.

Recursion (w^2, b^2 the weight and bias variances; NTK parametrisation, Novak et al. 2020), an entry
being 0 where p or p + o lies off the image:

    convolution   K <- b^2 + (w^2 / 9 c) sum_{d in 3x3} K(p + d, o),
                  T <- K + (w^2 / 9 c) sum_{d in 3x3} T(p + d, o)
    ReLU          K <- s1(p) s2(p + o) f(cos) / (2 pi),  T <- T f'(cos) / (2 pi),
                  cos = K / (s1(p) s2(p + o)),  s^2 = the diagonal of each image
    pooling       K(P, O) <- 1/16 sum_{a, b in {0,1}^2} K(2 P + a, 2 O + b - a),  the same for T
    Flatten       mean over p of K(p, 0);   GlobalAvgPool  mean over all p, p'
    Dense         K <- b^2 + w^2 K,  T <- K + w^2 T

c is the number of image channels at the first layer, 1 later; T starts as 0. Blocks of
[convolution, ReLU, pooling] run in first_block.py and next_block.py, other blocks of [convolution,
ReLU] with or without a pooling in chain.py, everything else in planes.py. One image of X1 at a time
meets j images of X2, which lie on the fastest axis.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture, Dense
from distill_cli.kernels.exact import gradient, planes
from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope, safe_sqrt
from distill_cli.kernels.exact.chain import Setting
from distill_cli.kernels.exact.first_block import image_rows
from distill_cli.kernels.exact.geometry import Plan, Stage, plan
from distill_cli.kernels.exact.layout import unframe


class Scales(NamedTuple):
    """Square roots of the diagonals of a set of images, for every ReLU, images last.

    maps: per ReLU of the spatial part, (y, x, n).  vectors: per ReLU after Flatten, (n,).
    """

    maps: tuple[Array, ...]
    vectors: tuple[Array, ...]


class Columns(NamedTuple):
    """What the images of X2 need once per tile, in the layout of first_block.py."""

    images: Array
    rows: Array | None
    scales: Scales


def factors(architecture: Architecture) -> tuple[float, float]:
    return architecture.weight_variance / 9, architecture.bias_variance


def prepare_columns(architecture: Architecture, z: Float[Array, "y x c j"], scales: Scales):
    """Columns of the images z with their scales (the latter may be filled in later)."""
    design = plan(architecture, z.shape[:2])
    stage = design.stages[1] if len(design.stages) > 1 else None
    if design.blocks()[:1] != (1,) or stage is None or stage.kind != "relu_pool":
        return Columns(z, None, scales)
    root = math.sqrt(factors(architecture)[0] / z.shape[2])
    return Columns(z, image_rows(z * root, stage, stage.pooled_radius[1] + 1), scales)


def leading_blocks(
    architecture: Architecture, design: Plan, channels: int, ntk: bool, same: bool
) -> Iterator[tuple[Setting, slice]]:
    """(setting, the block's part of Scales.maps) of every leading block of the plan, in order."""
    inner, bias = factors(architecture)
    begin = 0
    for convs in design.blocks():
        end = begin + convs
        factor = inner if begin else inner / channels
        stage = design.stages[2 * end - 1]
        yield Setting(stage, factor, inner, bias, ntk, same, convs), slice(begin, end)
        begin = end


def self_scales(start: Array, setting: Setting) -> tuple[Array, ...]:
    """Square roots of the diagonals at the ReLUs of a block, (y, x, j); start: K(p, 0) before it.

    A ReLU halves the diagonal, since f(1) = pi.
    """
    found = [safe_sqrt(setting.bias + setting.factor * planes.box(start))]
    for _ in range(setting.convs - 1):
        found.append(safe_sqrt(setting.bias + setting.inner * planes.box(found[-1] ** 2 / 2)))
    return tuple(found)


def _centre(band: Array, stage: Stage, j: int) -> Array:
    """Offset 0 of a framed band, (y, x, j)."""
    ry, rx = stage.radius
    return unframe(band[rx, ry][None, None], j).reshape(*stage.size, j)


def _run_blocks(architecture, x, columns: Columns, scales1: Scales | None, ntk: bool):
    """Leading blocks of the plan: (K, T, scale maps found), framed bands [ox, oy, y, x * j]."""
    design = plan(architecture, x.shape[:2])
    channels, j = x.shape[2], columns.images.shape[-1]
    maps: list[Array] = []
    k: Any = None
    t: Any = None
    for setting, here in leading_blocks(architecture, design, channels, ntk, scales1 is None):
        if scales1 is None:
            start = (x * x).sum(2) if k is None else _centre(k, setting.stage, j)
            s1 = s2 = self_scales(start, setting)
        else:
            s1, s2 = scales1.maps[here], columns.scales.maps[here]
        maps += s1
        if k is None:
            bands: Any = gradient.first_block(setting, x, columns.images, columns.rows, s1, s2)
        else:
            bands = gradient.next_block(setting, k, t, s1, s2)
        k, t = bands
    return k, t, maps


def _relu_vectors(k, t, s, exact: bool):
    cosine = jnp.where(s > 0, k / jnp.where(s > 0, s, 1), 0)
    if exact:
        cosine = jnp.where(s > 0, 1.0, 0.0).astype(k.dtype)
    k = s * relu_dual(cosine) * (1 / (2 * math.pi))
    return k, None if t is None else t * relu_dual_slope(cosine) * (1 / (2 * math.pi))


def mean_weight(design: Plan) -> float:
    """Weight of every entry of the last band in the mean that Flatten or GlobalAvgPool takes."""
    h, w = design.stages[-1].size
    if "pool" in design.stages[-1].kind:
        h, w = h // 2, w // 2
    return 1 / (h * w) ** 2 if design.total else 1 / (h * w)


def head_kernels(architecture, design: Plan, k, t, vectors1, vectors2, ntk: bool):
    """(NNGP, NTK or None, scales found) after the layers on vectors and the read-out.

    vectors1, vectors2: Scales.vectors of both sets as they meet k; vectors1 None: the pairs are
    (x, x).
    """
    w2, b2 = architecture.weight_variance, architecture.bias_variance
    same, vectors = vectors1 is None, []
    for layer in (*design.head, Dense(1)):
        if isinstance(layer, Dense):
            k = b2 + w2 * k
            t = None if not ntk else k if t is None else k + w2 * t
        else:
            s1 = s2 = safe_sqrt(k)
            if not same:
                s1, s2 = vectors1[len(vectors)], vectors2[len(vectors)]
            vectors.append(s1)
            k, t = _relu_vectors(k, t, s1 * s2, same)
    return k, t, tuple(vectors)


def pair_kernels(architecture, x, columns: Columns, scales1: Scales | None, ntk: bool = True):
    """(NNGP, NTK or None, scales) of one image x (y, x, c, 1) with the images of columns, each
    (j,).

    scales1 None: x holds the images of columns themselves, (y, x, c, j); the result is every image
    with itself, with cos = 1 set exactly where it is so by definition, and the scales are found.
    """
    same = scales1 is None
    size, j = x.shape[:2], columns.images.shape[-1]
    design = plan(architecture, size)
    done = sum(design.blocks())
    if not design.stages:
        k, t, maps = (x * columns.images).mean((0, 1, 2)), None, []
    else:
        k, t, maps = _run_blocks(architecture, x, columns, scales1, ntk)
        rest = design.stages[2 * done :]
        if rest:
            k, t = (None if band is None else unframe(band, j) for band in (k, t))
            k, t, more = planes.run(
                architecture, rest, x, columns.images, k, t,
                None if same else scales1.maps[done:], columns.scales.maps[done:], ntk,
            )  # fmt: skip
            maps = maps + more
        weight = mean_weight(design)

        def mean(band):
            return band.reshape(-1, j).sum(0) * weight

        k, t = mean(k), None if t is None else mean(t)
    vectors1 = None if same else scales1.vectors
    k, t, vectors = head_kernels(architecture, design, k, t, vectors1, columns.scales.vectors, ntk)
    return k, t, Scales(tuple(maps), vectors)
