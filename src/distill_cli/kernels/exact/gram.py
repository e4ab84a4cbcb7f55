"""Exact kernel matrices of any size: choice of engine, tiles, threads.

The result does not depend on how the work is cut: sets are padded to whole tiles, every pair is
computed by itself, and tiles are placed by index. The larger set goes on the tile's fast axis.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    feature_shape,
)
from distill_cli.errors import UserError, choice_error
from distill_cli.kernels.exact import neural_tangents, tiles

KERNELS = ("nngp", "ntk")
ENGINES = ("auto", "band", "neural_tangents")
Progress = Callable[[int, int], None]


def check_architecture(architecture: Architecture, image_shape: tuple[int, int, int]) -> None:
    """UserError unless the layers fit together on images of this shape."""
    flat = False
    for layer in architecture.layers:
        if isinstance(layer, Flatten | GlobalAvgPool):
            flat = True
        elif isinstance(layer, Dense) and not flat:
            raise UserError("architecture: Dense before Flatten or GlobalAvgPool is not supported")
        elif isinstance(layer, Conv | AvgPool) and flat:
            raise UserError(f"architecture: {type(layer).__name__} after Flatten or GlobalAvgPool")
    if not flat:
        raise UserError("architecture: it must end in Flatten or GlobalAvgPool before the read-out")
    try:
        feature_shape(architecture, image_shape)
    except ValueError as error:
        raise UserError(f"architecture: {error}") from error


def choose_engine(architecture: Architecture, image_shape: tuple[int, int, int]) -> str:
    """The engine `auto` takes: "band", which is exact for every architecture that is accepted."""
    check_architecture(architecture, image_shape)
    return "band"


def _check(architecture, x1, x2, get, engine, dtype):
    for name, x in (("x1", x1), ("x2", x2)):
        if x.ndim != 4 or 0 in x.shape:
            raise UserError(f"{name}: expected images (n, height, width, channel), found {x.shape}")
        if not np.isfinite(x).all():
            raise UserError(f"{name}: contains NaN or infinite pixels")
    if x1.shape[1:] != x2.shape[1:]:
        raise UserError(f"x1, x2: image shapes differ, {x1.shape[1:]} and {x2.shape[1:]}")
    for name in get:
        if name not in KERNELS:
            raise choice_error("get", name, KERNELS)
    if engine not in ENGINES:
        raise choice_error("engine", engine, ENGINES)
    if dtype not in (np.float32, np.float64):
        raise UserError(f"dtype={dtype}: choose float32 or float64")
    if dtype == np.float64 and engine == "neural_tangents":
        raise UserError("engine=neural_tangents: float32 only; float64 needs engine=band")
    check_architecture(architecture, x1.shape[1:])


def gram(
    architecture: Architecture,
    x1: np.ndarray,
    x2: np.ndarray | None = None,
    *,
    get: Sequence[str] = KERNELS,
    engine: str = "auto",
    dtype: type = np.float32,
    memory_mb: float = 512,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Exact infinite-width kernels of the architecture with its read-out of one output.

    x1: (n1, height, width, channel), preprocessed; x2: (n2, ...), or None for K(x1, x1), which is
    exactly symmetric and has the exact diagonal. get: "nngp" and / or "ntk".
    engine: "auto", "band" (band.py) or "neural_tangents". dtype: float32 or float64.
    memory_mb bounds the blocks of neural_tangents; a tile of the band engine takes a few MB (some
    tens where two convolutions precede a pooling). progress(done, total) counts pairs.

    Returns {name: (n1, n2) array of dtype} on the host. Raises UserError on input that cannot be
    used.
    """
    dtype = np.dtype(dtype).type
    get = (get,) if isinstance(get, str) else tuple(get)
    symmetric = x2 is None
    x1 = np.asarray(x1)
    x2 = x1 if x2 is None else np.asarray(x2)
    _check(architecture, x1, x2, get, engine, dtype)
    if engine == "auto":
        engine = choose_engine(architecture, x1.shape[1:])
    x1, x2 = x1.astype(dtype), x2.astype(dtype)
    compute = _band_gram if engine == "band" else _general_gram
    return compute(architecture, x1, x2, get, symmetric, memory_mb, progress or (lambda *_: None))


def _pad(x: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([x, np.zeros((n - len(x), *x.shape[1:]), x.dtype)]) if len(x) < n else x


def _blocks(n1: int, n2: int, rows: int, columns: int, symmetric: bool):
    """(start row, start column) of every tile; of K(x, x) only those that touch j >= i."""
    return [
        (i, j)
        for j in range(0, n2, columns)
        for i in range(0, n1, rows)
        if not symmetric or j + columns > i
    ]


def _collect(out, starts, tile, rows, columns, symmetric, threads, progress):
    """Fill out[name][i:, j:] from tile(i, j) -> {name: block}, over threads; mirror if
    symmetric."""
    n1, n2 = next(iter(out.values())).shape
    total, done = n1 * n2, 0
    weights = {(i, j): min(rows, n1 - i) * min(columns, n2 - j) for i, j in starts}
    scale = total / max(sum(weights.values()), 1)

    def place(start):
        return start, tile(*start)

    with ThreadPoolExecutor(threads) as pool:
        for (i, j), blocks in pool.map(place, starts):
            for name, block in blocks.items():
                out[name][i : i + rows, j : j + columns] = block[: n1 - i, : n2 - j]
            done += weights[i, j]
            progress(min(total, round(done * scale)), total)
    if symmetric:
        for k in out.values():
            lower = np.tril_indices(n1, -1)
            k[lower] = k.T[lower]
    return out


def _band_gram(architecture, x1, x2, get, symmetric, memory_mb, progress):
    # the larger set on the fast axis
    if len(x1) > len(x2):
        swapped = _band_gram(architecture, x2, x1, get, False, memory_mb, progress)
        return {name: np.ascontiguousarray(k.T) for name, k in swapped.items()}
    threads = len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1
    rows, columns = tiles.ROWS, tiles.tile_columns(x1.shape[1:], x1.dtype)
    n1, n2 = len(x1), len(x2)
    x1 = _pad(x1, -(-n1 // rows) * rows)
    x2 = _pad(x2, -(-n2 // columns) * columns)
    diagonal2 = [
        tiles.self_kernels(architecture, x2[j : j + columns]) for j in range(0, n2, columns)
    ]
    scales2 = [entry[2] for entry in diagonal2]
    if symmetric:
        joined = jax.tree.map(lambda *s: np.concatenate(s, -1), *scales2)
    else:
        joined = jax.tree.map(
            lambda *s: np.concatenate(s, -1),
            *(
                tiles.self_kernels(architecture, _pad(x1[i : i + columns], columns))[2]
                for i in range(0, n1, columns)
            ),
        )
    joined = jax.tree.map(
        lambda s: np.pad(s, [(0, 0)] * (s.ndim - 1) + [(0, len(x1))])[..., : len(x1)], joined
    )
    scales1 = [
        jax.tree.map(lambda s, i=i: s[..., i : i + rows], joined) for i in range(0, len(x1), rows)
    ]

    def tile(i, j):
        blocks = tiles.tile(
            architecture, get, min(rows, n1 - i), x1[i : i + rows], scales1[i // rows],
            x2[j : j + columns], scales2[j // columns],
        )  # fmt: skip
        return {name: np.asarray(block) for name, block in zip(get, blocks, strict=True)}

    out = {name: np.empty((n1, n2), x1.dtype) for name in get}
    starts = _blocks(n1, n2, rows, columns, symmetric)
    _collect(out, starts, tile, rows, columns, symmetric, threads, progress)
    if symmetric:
        exact = [np.concatenate([np.asarray(entry[k]) for entry in diagonal2]) for k in (0, 1)]
        for name, k in out.items():
            np.fill_diagonal(k, exact[KERNELS.index(name)][:n1])
    return out


def _general_gram(architecture, x1, x2, get, symmetric, memory_mb, progress):
    height, width, _ = x1.shape[1:]
    pair_mb = 4 * 6 * (height * width) ** 2 / 2**20
    side = int(np.clip(np.sqrt(memory_mb / pair_mb), 1, 25))
    n1, n2 = len(x1), len(x2)
    side1, side2 = (side, side) if symmetric else (min(side, n1), min(side, n2))
    x1, x2 = _pad(x1, -(-n1 // side1) * side1), _pad(x2, -(-n2 // side2) * side2)

    def tile(i, j):
        blocks = neural_tangents.block(
            architecture, x1[i : i + side1], x2[j : j + side2], get, symmetric and i == j
        )
        return dict(zip(get, blocks, strict=True))

    out = {name: np.empty((n1, n2), np.float32) for name in get}
    starts = _blocks(n1, n2, side1, side2, symmetric)
    return _collect(out, starts, tile, side1, side2, symmetric, 1, progress)


def estimate_seconds(
    architecture: Architecture,
    image_shape: tuple[int, int, int],
    n1: int,
    n2: int,
    get: Sequence[str] = KERNELS,
    engine: str = "auto",
) -> float:
    """Seconds gram() would take for n1 x n2 pairs, from one small warmed run on noise."""
    if engine == "auto":
        engine = choose_engine(architecture, image_shape)
    m1, m2 = (min(n1, 16), min(n2, 64)) if engine == "band" else (min(n1, 2), min(n2, 2))
    noise = np.random.default_rng(0).normal(size=(m1 + m2, *image_shape)).astype(np.float32)
    seconds = 0.0
    for _ in range(2):  # the first run compiles
        start = time.perf_counter()
        gram(architecture, noise[:m1], noise[m1:], get=get, engine=engine)
        seconds = time.perf_counter() - start
    return seconds * n1 * n2 / (m1 * m2)
