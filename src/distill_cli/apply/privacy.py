"""Coresets of which a share rho of the pixels is noise, and how near they are to training images.

Nguyen, Chen, Lee 2021 (KIP, arXiv 2011.00050) and RFAD (arXiv 2210.12067): pixels that are noise
from the start and never change cannot show anything. What is measured beside the accuracy is the
distance of each coreset image to its nearest training image, as evidence for or against
memorisation; held-out real images have such a distance too, which is what to compare with.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from distill_cli.core.keys import named_key
from distill_cli.methods.corruption import freeze


def frozen_mask(seed: int, images: Float[np.ndarray, "n h w c"], rho: float) -> np.ndarray:
    """The mask that a run of this seed draws: True where a pixel stays as it was at the start."""
    drawn = freeze(named_key(seed, "method"), images, rho)  # type: ignore[arg-type]
    return np.zeros(images.shape, bool) if drawn is None else np.asarray(drawn[1])


def check_frozen(
    images: Float[np.ndarray, "n h w c"],
    initial: Float[np.ndarray, "n h w c"],
    mask: Bool[np.ndarray, "n h w c"],
    rho: float,
) -> float:
    """The realised share of noise pixels. Raises ValueError where a pixel that must be noise is
    not, or the share is further from rho than chance allows (five standard errors)."""
    if not np.array_equal(images[mask], initial[mask]):
        wrong = int(np.sum(images[mask] != initial[mask]))
        raise ValueError(f"{wrong} pixels that must stay noise have changed: the set is not safe")
    share = float(mask.mean())
    if abs(share - rho) > 5 * np.sqrt(rho * (1 - rho) / mask.size) + 1e-12:
        raise ValueError(f"share of noise pixels {share}, asked for {rho}")
    return share


def behind_mask(
    real: Float[np.ndarray, "n h w c"],
    noise: Float[np.ndarray, "n h w c"],
    mask: Bool[np.ndarray, "n h w c"],
) -> Float[np.ndarray, "n h w c"]:
    """Real images with noise where the mask is True: the control that is not optimised."""
    return np.where(mask, noise, real).astype(np.float32)


def standardised(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Each vector without its mean and of norm 1 (0 where it is constant), float32.

    Brightness and contrast of a coreset image are free; distances must not depend on them.
    """
    centred = vectors - vectors.mean(1, keepdims=True, dtype=np.float64)
    return unit(centred)


def unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Each vector with norm 1 (0 where it is 0), float32."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norm > 1e-12, norm, 1)).astype(np.float32)


class Nearest(NamedTuple):
    """rows: (q,) of the nearest reference vectors; distances: (q,) Euclidean, of unit vectors."""

    rows: Int[np.ndarray, " q"]
    distances: Float[np.ndarray, " q"]


def nearest(
    queries: Float[np.ndarray, "q d"], blocks: Iterable[Float[np.ndarray, "b d"]]
) -> Nearest:
    """Nearest among all blocks of unit vectors; of equals the first. sqrt(2 - 2 <q, r>)."""
    return _nearest(lambda block: queries @ block.T, len(queries), blocks)


def nearest_free(
    queries: Float[np.ndarray, "q d"],
    free: Bool[np.ndarray, "q d"],
    blocks: Iterable[Float[np.ndarray, "b d"]],
) -> Nearest:
    """Nearest where only the free entries of each query count: sqrt(2 - 2 correlation over these).

    The noise elsewhere would hide a copied image from `nearest`. Vectors need not be standardised.
    Where fewer than two entries are free, or one side is constant there, the correlation is 0.
    """
    kept = free.astype(np.float64)
    count = np.maximum(kept.sum(1, keepdims=True), 1)
    centred = (queries - (queries * kept).sum(1, keepdims=True) / count) * kept
    length = np.linalg.norm(centred, axis=1, keepdims=True)

    def correlations(block: np.ndarray) -> np.ndarray:
        block = np.asarray(block, np.float64)
        spread = kept @ (block**2).T - (kept @ block.T) ** 2 / count
        scale = length * np.sqrt(np.maximum(spread, 0))
        return np.where(scale > 1e-6, centred @ block.T / np.maximum(scale, 1e-6), 0)

    return _nearest(correlations, len(queries), blocks)


def _nearest(
    cosines: Callable[[np.ndarray], np.ndarray], count: int, blocks: Iterable[np.ndarray]
) -> Nearest:
    best, rows, start = np.full(count, -np.inf), np.zeros(count, np.int64), 0
    for block in blocks:
        found = cosines(block)
        at = found.argmax(1)
        value = found[np.arange(count), at]
        better = value > best
        best[better], rows[better] = value[better], start + at[better]
        start += len(block)
    return Nearest(rows, np.sqrt(np.maximum(2 - 2 * best, 0)))
