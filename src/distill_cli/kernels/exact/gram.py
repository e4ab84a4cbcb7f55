"""Exact kernel matrices of any size: choice of engine, tiles, threads, devices.

The result does not depend on how the work is cut: sets are padded to whole tiles, every pair is
computed by itself, and tiles are placed by index. The larger set goes on the tile's fast axis.
Tiles are shared out among the cores of a CPU or the chosen devices (core/devices.py); their shape
does not depend on how many there are, so neither does a bit of the result.
"""

import functools
import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.core import devices
from distill_cli.kernels.exact import neural_tangents, tiles
from distill_cli.kernels.exact.choice import (
    KERNELS,
    check,
    choose_engine,
    neural_tangents_mb,
)
from distill_cli.kernels.exact.kept import kept_tiles

Progress = Callable[[int, int], None]


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
    keep: Path | None = None,
) -> dict[str, np.ndarray]:
    """Exact infinite-width kernels of the architecture with its read-out of one output.

    x1: (n1, height, width, channel), preprocessed; x2: (n2, ...), or None for K(x1, x1), which is
    exactly symmetric and has the exact diagonal. get: "nngp" and / or "ntk".
    engine: "auto" (choose_engine says which), "band" (band.py) or "neural_tangents". dtype: float32
    or float64. memory_mb bounds the working set of all threads together: tiles shrink to a single
    pair, and fewer threads run, before it is exceeded; the images and results come on top. On
    accelerators it holds for each, and its default stands for a third of the device's memory.
    progress(done, total) counts pairs. keep: a folder in which finished tiles of a computation of
    more than kept.EVERY seconds wait for the same call, which goes on from them with the same bits;
    the caller removes it.

    Results do not depend on the tile up to rounding (3e-6 relative in float32): the compiler fuses
    multiply-adds differently in the vector part and the remainder of a loop.

    Returns {name: (n1, n2) array of dtype} on the host. Raises UserError on input that cannot be
    used.
    """
    dtype = np.dtype(dtype).type
    get = (get,) if isinstance(get, str) else tuple(get)
    symmetric = x2 is None
    x1 = np.asarray(x1)
    x2 = x1 if x2 is None else np.asarray(x2)
    engine = check(architecture, x1, x2, get, engine, dtype, memory_mb)
    x1, x2 = x1.astype(dtype), x2.astype(dtype)
    compute = _band_gram if engine == "band" else _general_gram
    tell = progress or (lambda *_: None)
    return compute(architecture, x1, x2, get, symmetric, memory_mb, tell, keep)


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


def _collect(out, starts, tile, rows, columns, symmetric, slots, progress, kept):
    """Fill out[name][i:, j:] from tile(i, j, slot) -> {name: block}, a thread for every slot, and
    from the tiles that are kept; mirror if symmetric."""
    n1, n2 = next(iter(out.values())).shape
    total, done = n1 * n2, 0
    weights = {(i, j): min(rows, n1 - i) * min(columns, n2 - j) for i, j in starts}
    scale = total / max(sum(weights.values()), 1)
    free: queue.SimpleQueue = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)

    def place(start):
        slot = free.get()
        try:
            return start, tile(*start, slot)
        finally:
            free.put(slot)

    def fill(start, blocks):
        nonlocal done
        i, j = start
        for name, block in blocks.items():
            out[name][i : i + rows, j : j + columns] = block[: n1 - i, : n2 - j]
        done += weights.pop(start)

    for start, blocks in kept.read():
        if start in weights:
            fill(start, blocks)
    left = [start for start in starts if start in weights]
    try:
        with ThreadPoolExecutor(len(slots)) as pool:
            for start, blocks in pool.map(place, left):
                fill(start, blocks)
                kept.add(start, blocks)
                progress(min(total, round(done * scale)), total)
    except BaseException:
        kept.write()
        raise
    if kept.begun:
        kept.write()
    if symmetric:
        for k in out.values():
            lower = np.tril_indices(n1, -1)
            k[lower] = k.T[lower]
    return out


def _slots(most: float) -> list[Any]:
    """Where tiles are computed at the same time: every accelerator, or the cores of a CPU, at most
    `most` of them for its memory; None: where JAX puts it."""
    found = devices.chosen()
    if jax.default_backend() != "cpu":
        return list(found)
    count = max(len(os.sched_getaffinity(0)), len(found))
    count = min(count, max(1, int(most)))
    if len(found) == 1:
        return [None] * count
    return [found[i % len(found)] for i in range(count)]


def _band_gram(architecture, x1, x2, get, symmetric, memory_mb, progress, keep):
    # the larger set on the fast axis
    if len(x1) > len(x2):
        swapped = _band_gram(architecture, x2, x1, get, False, memory_mb, progress, keep)
        return {name: np.ascontiguousarray(k.T) for name, k in swapped.items()}
    shape, n1, n2 = x1.shape[1:], len(x1), len(x2)
    (rows, columns), each = tiles.gram_tile(architecture, shape, x1.dtype, memory_mb, n1, n2)
    slots = _slots(memory_mb / each)
    kept = kept_tiles(keep, get, (rows, columns), x1.dtype, "band", architecture, x1, x2, symmetric)
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

    @functools.cache
    def first(i, device):  # a device gets a set once, not with every tile
        part = x1[i : i + rows], scales1[i // rows]
        return part if device is None else jax.device_put(part, device)

    @functools.cache
    def second(j, device):
        part = x2[j : j + columns], scales2[j // columns]
        return part if device is None else jax.device_put(part, device)

    def tile(i, j, device):
        count = min(rows, n1 - i)
        operands: Any = (*first(i, device), *second(j, device))
        blocks = tiles.tile(architecture, get, count, *operands)
        return {name: np.asarray(block) for name, block in zip(get, blocks, strict=True)}

    out = {name: np.empty((n1, n2), x1.dtype) for name in get}
    starts = _blocks(n1, n2, rows, columns, symmetric)
    _collect(out, starts, tile, rows, columns, symmetric, slots, progress, kept)
    if symmetric:
        exact = [np.concatenate([np.asarray(entry[k]) for entry in diagonal2]) for k in (0, 1)]
        for name, k in out.items():
            np.fill_diagonal(k, exact[KERNELS.index(name)][:n1])
    return out


def _general_gram(architecture, x1, x2, get, symmetric, memory_mb, progress, keep):
    side = int(np.clip(np.sqrt(tiles.bound(memory_mb) / neural_tangents_mb(x1.shape[1:])), 1, 25))
    n1, n2 = len(x1), len(x2)
    side1, side2 = (side, side) if symmetric else (min(side, n1), min(side, n2))
    about = "neural_tangents", architecture, x1, x2, symmetric
    kept = kept_tiles(keep, get, (side1, side2), np.dtype(np.float32), *about)
    x1, x2 = _pad(x1, -(-n1 // side1) * side1), _pad(x2, -(-n2 // side2) * side2)

    def tile(i, j, _):
        blocks = neural_tangents.block(
            architecture, x1[i : i + side1], x2[j : j + side2], get, symmetric and i == j
        )
        return dict(zip(get, blocks, strict=True))

    out = {name: np.empty((n1, n2), np.float32) for name in get}
    starts = _blocks(n1, n2, side1, side2, symmetric)
    return _collect(out, starts, tile, side1, side2, symmetric, [None], progress, kept)


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
    most = ((64, 1024) if tiles.on_whole_bands() else (16, 64)) if engine == "band" else (2, 2)
    m1, m2 = min(n1, most[0]), min(n2, most[1])
    noise = np.random.default_rng(0).normal(size=(m1 + m2, *image_shape)).astype(np.float32)
    seconds = 0.0
    for _ in range(2):  # the first run compiles
        start = time.perf_counter()
        gram(architecture, noise[:m1], noise[m1:], get=get, engine=engine)
        seconds = time.perf_counter() - start
    return seconds * n1 * n2 / (m1 * m2)
