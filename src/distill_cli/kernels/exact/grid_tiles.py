"""Tiles for accelerators: rows x columns pairs at a time on whole bands (grid.py).

A tile is as large as the bound on memory allows: kernels are launched once per tile, so that their
number does not grow with the pairs of a tile, and every kernel has enough to do.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture
from distill_cli.kernels.exact import memory
from distill_cli.kernels.exact.band import Scales
from distill_cli.kernels.exact.geometry import plan
from distill_cli.kernels.exact.grid import grid_kernels, own_kernels
from distill_cli.kernels.exact.whole import settle

MOST_COLUMNS = 1024  # more adds nothing: launches are shared by rows as well
LANES = 32  # columns are a multiple: neighbours in memory belong to neighbouring threads
MOST_NUMBERS = 2**30  # of a band: beyond, launches are nothing and indices leave 32 bits


def _even(n: int, most: int, lanes: int = 1) -> int:
    """At most `most`: what cuts n into the fewest parts of nearly the same size, large ones in
    multiples of lanes."""
    if most >= 8 * lanes:
        most = most // lanes * lanes
    part = math.ceil(n / math.ceil(n / most))
    return part if part < 8 * lanes else math.ceil(part / lanes) * lanes


def tile_shape(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    dtype,
    memory_mb: float,
    n1: int,
    n2: int,
    gradient: bool = False,
) -> tuple[int, int]:
    """(rows, columns) of the tiles of n1 x n2 pairs; UserError if one pair exceeds memory_mb.

    As many columns as fit and are useful, then as many rows; evenly cut, so that little is padded.
    """

    def fits(rows: int, columns: int) -> bool:
        needed = memory.grid_mb(architecture, image_shape, rows, columns, dtype, gradient)
        return needed <= memory_mb and rows * columns * largest <= MOST_NUMBERS

    largest = max(memory.band_numbers(plan(architecture, image_shape[:2]).stages), default=1)
    columns = _even(n2, MOST_COLUMNS, LANES)
    while columns > 1 and not fits(1, columns):
        columns = _even(n2, math.ceil(columns / 2), LANES)
    if columns == 1 and not fits(1, 1):
        least = memory.grid_mb(architecture, image_shape, 1, 1, dtype, gradient)
        if least > memory_mb:
            raise memory.too_small(memory_mb, image_shape, least)
    most = 1
    while most < n1 and fits(most + 1, columns):
        most += 1
    return _even(n1, most), columns


def grid_tile(architecture: Architecture, get, x1, scales1: Scales, x2, scales2: Scales):
    """The kernels in get of a tile, each (len(x1), len(x2))."""
    k, t = grid_kernels(architecture, x1, x2, scales1, scales2, "ntk" in get)
    return tuple({"nngp": k, "ntk": t}[name] for name in get)


def _cut(x: Array, size: int) -> Array:
    """(n, ...) -> (parts, size, ...), zeros at the end."""
    x = jnp.pad(x, [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, size, *x.shape[1:])


def _own(architecture: Architecture, x: Float[Array, "n y x c"], most: int):
    """(NNGP, NTK, Scales) of every image with itself, images first: (n,), (n, y, x)."""
    own = jax.checkpoint(lambda part: own_kernels(architecture, part))
    k, t, scales = jax.lax.map(own, _cut(x, _even(len(x), most, LANES)))

    def joined(a: Array) -> Array:  # (parts, ..., size) -> (n, ...)
        return jnp.moveaxis(a, -1, 1).reshape(-1, *a.shape[1:-1])[: len(x)]

    return joined(k), joined(t), jax.tree.map(joined, scales)


def grid_gram(
    architecture: Architecture,
    x1: Float[Array, "n1 y x c"],
    x2: Float[Array, "n2 y x c"] | None,
    memory_mb: float,
) -> tuple[Float[Array, "n1 n2"], Float[Array, "n1 n2"]]:
    """band_gram (tiles.py), n1 <= n2, in tiles of several rows; every tile is made again in the
    derivative."""
    z = x1 if x2 is None else x2
    n1, n2 = len(x1), len(z)
    rows, columns = tile_shape(
        architecture, x1.shape[1:], x1.dtype, memory_mb, n1, n2, gradient=True
    )
    k_self, t_self, scales2 = _own(architecture, z, columns)
    scales1 = scales2 if x2 is None else _own(architecture, x1, columns)[2]

    def parts(x: Array, scales: Scales, size: int):  # scales: images last again
        moved = jax.tree.map(lambda s: jnp.moveaxis(_cut(s, size), 1, -1), scales)
        return _cut(x, size), moved

    @jax.checkpoint
    def tile(one, two):
        # Together, so that what depends on the columns alone does not leave the loop over rows: it
        # would be read from memory there instead of being computed.
        one, two = settle(one, two)
        return grid_kernels(architecture, one[0], two[0], one[1], two[1])

    first = parts(x1, scales1, rows)

    def block(two):
        return jax.lax.map(lambda one: tile(one, two), first)

    nngp, ntk = (
        jnp.transpose(k, (1, 2, 0, 3)).reshape(-1, k.shape[0] * columns)[:n1, :n2]
        for k in jax.lax.map(block, parts(z, scales2, columns))  # (tiles, tiles, rows, columns)
    )
    if x2 is None:
        on = jnp.eye(n1, dtype=bool)
        nngp, ntk = (jnp.where(on, own[None], k) for k, own in ((nngp, k_self), (ntk, t_self)))
    return nngp, ntk
