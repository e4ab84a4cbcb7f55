"""Kernel matrices that the applications need: coreset, test and training images, and diagonals."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from distill_cli.arch.layers import Architecture
from distill_cli.core.keys import named_key, step_key
from distill_cli.kernels.exact import choose_engine, gram
from distill_cli.kernels.exact.tiles import self_kernels, tile_columns
from distill_cli.kernels.random_features import RandomFeatureKernel

Report = Callable[[str, float], None]
KERNELS = ("nngp", "ntk")
FEATURE_BLOCK = 1024  # images of one call
GENERAL_BLOCK = 4  # images whose whole matrix is made for the sake of its diagonal


class Grams(NamedTuple):
    """ss: coreset with itself; xs, ts: test and training images with the coreset; t: each training
    image with itself."""

    ss: Float[np.ndarray, "n n"]
    xs: Float[np.ndarray, "m n"]
    ts: Float[np.ndarray, "t n"]
    t: Float[np.ndarray, " t"]


def exact_grams(
    architecture: Architecture,
    kernel: str,
    coreset: np.ndarray,
    test: np.ndarray,
    train: np.ndarray,
    *,
    engine: str = "auto",
    memory_mb: float = 512,
    report: Report = lambda what, done: None,
    keep: Path | None = None,
) -> Grams:
    """Of the exact kernel "nngp" or "ntk"; keep: as gram() has it."""

    def matrix(images: np.ndarray, other: np.ndarray | None, what: str) -> np.ndarray:
        return gram(
            architecture, images, other, get=(kernel,), engine=engine, memory_mb=memory_mb,
            progress=lambda done, total: report(f"exact kernels, {what}", done / total),
            keep=keep,
        )[kernel]  # fmt: skip

    return Grams(
        matrix(coreset, None, "coreset"),
        matrix(test, coreset, "test images"),
        matrix(train, coreset, "training images"),
        diagonal(architecture, kernel, train, engine, memory_mb),
    )


def diagonal(
    architecture: Architecture, kernel: str, images: np.ndarray, engine: str = "auto",
    memory_mb: float = 512,
) -> Float[np.ndarray, " n"]:  # fmt: skip
    """K(x, x) of every image under an exact kernel."""
    images = np.asarray(images, np.float32)
    if engine == "auto":
        engine = choose_engine(architecture, images.shape[1:], memory_mb)
    size = tile_columns(images.shape[1:], images.dtype) if engine == "band" else GENERAL_BLOCK
    found = []
    for at in range(0, len(images), size):
        part = images[at : at + size]
        padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
        if engine == "band":
            own = self_kernels(architecture, padded)[KERNELS.index(kernel)]
        else:
            own = np.diag(gram(architecture, padded, get=(kernel,), engine=engine)[kernel])
        found.append(np.asarray(own)[: len(part)])
    return np.concatenate(found).astype(np.float64)


def random_grams(
    architecture: Architecture,
    coreset: np.ndarray,
    test: np.ndarray,
    train: np.ndarray,
    *,
    networks: int,
    seed: int,
    draw: int,
    micro: int,
) -> Grams:
    """Of one random-feature kernel; draw numbers independent kernels of a seed."""
    height, width, channel = coreset.shape[1:]
    kernel = RandomFeatureKernel(architecture, (height, width, channel), networks)
    params = jax.jit(kernel.sample)(step_key(named_key(seed, "apply/kernel"), draw))
    of = features_of(kernel, params, micro)
    phi = of(np.asarray(coreset))

    def against(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, own = [], []
        for at in range(0, len(images), FEATURE_BLOCK):
            part = of(np.asarray(images[at : at + FEATURE_BLOCK]))
            rows.append(np.asarray(kernel.gram(part, phi)))  # type: ignore[arg-type]
            own.append(architecture.weight_variance * (part**2).sum(1))
        return np.concatenate(rows), np.concatenate(own) + architecture.bias_variance

    ts, t = against(train)
    return Grams(against(coreset)[0], against(test)[0], ts, t)


def features_of(
    kernel: RandomFeatureKernel, params: object, micro: int
) -> Callable[[np.ndarray], Float[np.ndarray, "n feature"]]:
    """images (n, h, w, c) -> Phi (n, feature) in float64, block by block, compiled once."""
    size = FEATURE_BLOCK
    compiled = jax.jit(partial(kernel.features, params, micro=min(micro, size)))

    def of(images: np.ndarray) -> np.ndarray:
        found = []
        for at in range(0, len(images), size):
            part = np.asarray(images[at : at + size], np.float32)
            padded = np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0)))
            found.append(np.asarray(compiled(padded), np.float64)[: len(part)])
        return np.concatenate(found)

    return of


def mean_grams(draws: list[Grams]) -> Grams:
    """The kernel that averages these."""
    return Grams(
        *(np.mean(np.stack(part).astype(np.float64), 0) for part in zip(*draws, strict=True))
    )
