"""Kernels of r images of X1 with j images of X2 at once, on whole bands: the form for accelerators.

The same recursion, plan and scales as band.py, whose pair_kernels takes one image of X1 at a time;
blocks run in whole_gradient.py, what is after them in planes.py.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture
from distill_cli.kernels.exact import planes, whole_gradient
from distill_cli.kernels.exact.band import (
    Scales,
    head_kernels,
    leading_blocks,
    mean_weight,
    self_scales,
)
from distill_cli.kernels.exact.geometry import Plan, plan

Result = tuple[Array, Array | None, Scales]


def grid_kernels(
    architecture: Architecture,
    x1: Float[Array, "r y x c"],
    x2: Float[Array, "j y x c"],
    scales1: Scales,
    scales2: Scales,
    ntk: bool = True,
) -> tuple[Array, Array | None]:
    """(NNGP, NTK or None), each (r, j)."""
    first = jnp.moveaxis(x1, -1, 1)[..., None]
    maps1 = tuple(jnp.moveaxis(s, -1, 0)[..., None] for s in scales1.maps)
    scales1 = Scales(maps1, tuple(s[:, None] for s in scales1.vectors))
    scales2 = scales2._replace(vectors=tuple(s[None] for s in scales2.vectors))
    return _kernels(architecture, first, _last(x2), scales1, scales2, ntk)[:2]


def own_kernels(architecture: Architecture, x: Float[Array, "j y x c"]) -> Result:
    """(NNGP, NTK, scales) of every image with itself, each (j,); see band.pair_kernels."""
    z = _last(x)
    k, t, scales = _kernels(architecture, z[None], z, None, Scales((), ()), True)
    assert t is not None
    return k[0], t[0], Scales(scales.maps, tuple(s[0] for s in scales.vectors))


def _last(x: Float[Array, "j y x c"]) -> Float[Array, "c y x j"]:
    return jnp.transpose(x, (3, 1, 2, 0))


def _kernels(architecture, x, z, scales1: Scales | None, scales2: Scales, ntk: bool) -> Result:
    """x (r, c, y, x, 1), z (c, y, x, j), or where scales1 is None x = z[None]; maps of scales1 (r,
    y, x, 1), of scales2 and of the scales found (y, x, j)."""
    design = plan(architecture, z.shape[1:3])
    if not design.stages:
        k, t, maps = (x * z[None]).mean((1, 2, 3)), None, ()
    else:
        k, t, maps = _bands(architecture, design, x, z, scales1, scales2.maps, ntk)
        weight = mean_weight(design)
        k, t = (None if band is None else band.sum((1, 2, 3, 4)) * weight for band in (k, t))
    vectors1 = None if scales1 is None else scales1.vectors
    k, t, vectors = head_kernels(architecture, design, k, t, vectors1, scales2.vectors, ntk)
    return k, t, Scales(tuple(maps), vectors)


def _bands(architecture, design: Plan, x, z, scales1: Scales | None, maps2, ntk: bool):
    """The spatial part: (K, T, scale maps found), bands [r, oy, ox, y, x, j]."""
    maps: list[Array] = []
    k: Any = None
    t: Any = None
    for setting, here in leading_blocks(architecture, design, len(z), ntk, scales1 is None):
        if scales1 is None:
            ry, rx = setting.stage.radius
            s2 = self_scales((z * z).sum(0) if k is None else k[0, ry, rx], setting)
            s1 = tuple(s[None] for s in s2)
        else:
            s1, s2 = scales1.maps[here], maps2[here]
        maps += s2
        if k is None:
            k, t = whole_gradient.first_block(setting, x, z, s1, s2)
        else:
            k, t = whole_gradient.next_block(setting, k, t, s1, s2)
    done = sum(design.blocks())
    rest = design.stages[2 * done :]
    if not rest:
        return k, t, maps
    maps1 = None if scales1 is None else scales1.maps[done:]

    def general(x, k, t, maps1):
        j = z.shape[-1]
        k, t = (
            None if b is None else b.swapaxes(0, 1).reshape(*b.shape[1::-1], b.shape[2], -1)
            for b in (k, t)
        )
        k, t, more = planes.run(
            architecture, rest, jnp.moveaxis(x, 0, 2), jnp.moveaxis(z, 0, 2), k, t, maps1,
            maps2[done:], ntk,
        )  # fmt: skip
        k, t = (
            None if b is None else b.reshape(*b.shape[:3], -1, j).swapaxes(0, 1) for b in (k, t)
        )
        return k, t, more

    k, t, more = jax.vmap(general)(x, k, t, maps1)
    return k, t, maps + [s[0] for s in more]
