"""The band engine compiled: tiles for gram.py, and the same inside a caller's jit and grad."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture
from distill_cli.kernels.exact import memory
from distill_cli.kernels.exact.band import Scales, pair_kernels, prepare_columns
from distill_cli.kernels.exact.grid import own_kernels
from distill_cli.kernels.exact.grid_tiles import grid_gram, grid_tile, tile_shape


def on_whole_bands() -> bool:
    """Whether tiles are those of grid_tiles.py, for accelerators, or those for a CPU's caches."""
    return jax.default_backend() != "cpu"


@functools.cache
def _options() -> dict:
    """Compiler options on CPU: 512-bit vectors (XLA's default is 256); no splitting of an
    operation over threads, since gram() gives every thread a tile. Options that this XLA lacks are
    left out."""
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
    """The functions for (a CPU's caches, whole bands): self_kernels, tile."""
    return (compiled(_self_kernels), compiled(_tile)), (
        compiled(lambda architecture, _, x: own_kernels(architecture, x)),
        compiled(lambda architecture, get, _, *operands: grid_tile(architecture, get, *operands)),
    )


def self_kernels(architecture: Architecture, x: Float[Array, "n y x c"] | np.ndarray):
    """(NNGP, NTK, scales) of every image with itself; cos = 1 exactly where it is so by
    definition."""
    return _compiled()[on_whole_bands()][0](architecture, (), x)


def tile(architecture: Architecture, get, count: int, x1, scales1: Scales, x2, scales2: Scales):
    """The kernels in get, each (len(x1), len(x2)), of the first count images of x1; other rows are
    0, or what zero images give."""
    return _compiled()[on_whole_bands()][1](
        architecture, get, np.int32(count), x1, scales1, x2, scales2
    )


def compiled_tile(architecture: Architecture, get, count: int, *operands):
    """The compiled tile(), for its memory analysis."""
    function = _compiled()[on_whole_bands()][1]
    return function.lower(architecture, get, np.int32(count), *operands).compile()


ROWS = 16  # images of X1 per call: enough to hide the call's cost


def tile_columns(image_shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Images of X2 per tile: what keeps a row of pooled columns at a few hundred numbers, so that
    the operands of one row pair fit into the level-2 cache (measured on 8x8 to 64x64 images)."""
    columns = int(np.clip(512 // image_shape[1], 16, 64)) // 8 * 8
    return columns * 4 // np.dtype(dtype).itemsize


def gram_tile(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    dtype: np.dtype,
    memory_mb: float,
    n1: int,
    n2: int,
) -> tuple[tuple[int, int], float]:
    """((rows, columns), MB) of a tile of gram() for n1 x n2 pairs, here."""
    if on_whole_bands():
        shape = tile_shape(architecture, image_shape, dtype, bound(memory_mb), n1, n2)
        return shape, memory.grid_mb(architecture, image_shape, *shape, dtype)
    columns = tile_columns(image_shape, dtype)
    shape = memory.fit(architecture, image_shape, dtype, memory_mb, ROWS, columns)
    return shape, memory.tile_mb(architecture, image_shape, *shape, dtype)


def least_mb(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    dtype: type | np.dtype,
    gradient: bool = False,
) -> float:
    """MB of a tile of one pair, here: a bound on memory below it is refused."""
    estimate = memory.grid_mb if on_whole_bands() else memory.tile_mb
    return estimate(architecture, image_shape, 1, 1, dtype, gradient)


def bound(memory_mb: float) -> float:
    """What memory_mb means here; see memory.bound."""
    return memory.bound(memory_mb) if on_whole_bands() else memory_mb


def check_fits(
    architecture: Architecture,
    image_shape: tuple[int, ...],
    dtype: str | np.dtype,
    memory_mb: float,
) -> None:
    """UserError if band_gram cannot be differentiated for one pair within memory_mb."""
    least = least_mb(architecture, image_shape, np.dtype(dtype), gradient=True)
    if least > bound(memory_mb):
        raise memory.too_small(bound(memory_mb), image_shape, least)


def band_gram(
    architecture: Architecture,
    x1: Float[Array, "n1 y x c"],
    x2: Float[Array, "n2 y x c"] | None = None,
    memory_mb: float = 512,
) -> tuple[Float[Array, "n1 n2"], Float[Array, "n1 n2"]]:
    """(NNGP, NTK) for use inside jit and grad: differentiable in both sets, in their dtype.

    x2 None: K(x1, x1), its diagonal each image with itself. memory_mb bounds the working set of a
    tile and of its derivative (tiles are recomputed there) besides the sets, their scales and the
    results; UserError if it is too small for one pair.
    """
    z = x1 if x2 is None else x2
    if len(x1) > len(z):
        nngp, ntk = band_gram(architecture, z, x1, memory_mb)
        return nngp.T, ntk.T
    if on_whole_bands():
        return grid_gram(architecture, x1, x2, bound(memory_mb))
    shape = x1.shape[1:]
    columns = tile_columns(shape, x1.dtype)
    _, width = memory.fit(architecture, shape, x1.dtype, memory_mb, 1, columns, gradient=True)

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
