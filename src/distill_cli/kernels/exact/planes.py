"""The general path of the band engine: any spatial layers, on whole bands (oy, ox, y, x, j)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope, safe_sqrt


def box(k: Float[Array, "*more y x j"]) -> Array:
    """Sum over the 3x3 neighbourhood of the pixel (the two axes before the last), zero padding."""
    h, w = k.shape[-3:-1]
    k = jnp.pad(k, [(0, 0)] * (k.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    k = k[..., 0:h, :, :] + k[..., 1 : h + 1, :, :] + k[..., 2 : h + 2, :, :]
    return k[..., 0:w, :] + k[..., 1 : w + 1, :] + k[..., 2 : w + 2, :]


def windows(a: Float[Array, "y x ..."], radius: tuple[int, int]) -> Array:
    """[oy, ox, y, x, ...]: a shifted by every offset of the band, 0 off the image."""
    ry, rx = radius
    rest = (0,) * (a.ndim - 2)
    padded = jnp.pad(a, ((ry, ry), (rx, rx), *((0, 0) for _ in rest)))

    def at(oy, ox):
        return jax.lax.dynamic_slice(padded, (oy, ox, *rest), a.shape)

    return jax.vmap(jax.vmap(at, (None, 0)), (0, None))(
        jnp.arange(2 * ry + 1), jnp.arange(2 * rx + 1)
    )


def pool(k: Float[Array, "oy ox y x j"]) -> Array:
    """2x2 average pooling of both images: 16 combinations (a, b) of weight 1/16."""
    ny, nx, h, w, _ = k.shape
    uy, ux, hh, ww = (ny - 1) // 2, (nx - 1) // 2, h // 2, w // 2
    total = jnp.zeros((), k.dtype)
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


def inside(size: tuple[int, ...], radius: tuple[int, int], dtype) -> Array:
    """[oy, ox, y, x, 1]: 1 where p + o lies on the image."""
    return windows(jnp.ones((*size, 1), dtype), radius)


def run(architecture, stages, x1, x2, k, t, maps1, maps2, ntk):
    """The stages on a band ([ox, oy, y, x * j], or None for the images themselves).

    x1 (y, x, c, 1), x2 (y, x, c, j); maps1, maps2 the scales of the ReLUs in these stages, maps1
    None for pairs of an image with itself. Returns (K, T, scales found), bands as they came.
    """
    w2, b2 = architecture.weight_variance, architecture.bias_variance
    same = maps1 is None
    j = x2.shape[-1]
    if k is None:
        k = (x1[None, None] * windows(x2, stages[0].radius)).sum(4) / x1.shape[2]
    else:
        h, w = stages[0].size
        k = k.reshape(*k.shape[:2], h, w, j).swapaxes(0, 1)
        t = None if t is None else t.reshape(*t.shape[:2], h, w, j).swapaxes(0, 1)
    found: list[Array] = []
    for stage in stages:
        mask = inside(stage.size, stage.radius, k.dtype)
        if stage.kind == "conv":
            k = mask * (b2 + (w2 / 9) * box(k))
            if ntk:
                t = k if t is None else k + mask * ((w2 / 9) * box(t))
        if "relu" in stage.kind:
            exact = None
            if same:
                ry, rx = stage.radius
                s1 = s2 = safe_sqrt(k[ry, rx])
                exact = jnp.zeros(k.shape, bool).at[ry, rx].set(True)
            else:
                s1, s2 = maps1[len(found)], maps2[len(found)]
            found.append(s1)
            k, t = relu(k, t, s1[None, None] * windows(s2, stage.radius), exact)
        if "pool" in stage.kind:
            k = pool(k)
            mask = inside(k.shape[2:4], (k.shape[0] // 2, k.shape[1] // 2), k.dtype)
            k, t = mask * k, None if t is None else mask * pool(t)
    h, w = k.shape[2:4]
    k, t = (
        None if a is None else a.swapaxes(0, 1).reshape(*a.shape[1::-1], h, w * j) for a in (k, t)
    )
    return k, t, found


def relu(k, t, s, exact=None):
    """(K, T) after a ReLU; s = s1 s2; exact marks entries whose correlation is 1 by definition."""
    cosine = jnp.where(s > 0, k / jnp.where(s > 0, s, 1), 0)
    if exact is not None:
        cosine = jnp.where(exact & (s > 0), 1, cosine)
    k = s * relu_dual(cosine) * (1 / (2 * math.pi))
    return k, None if t is None else t * relu_dual_slope(cosine) * (1 / (2 * math.pi))
