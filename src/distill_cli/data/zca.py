"""Statistics of the training images: channel moments, uncentred covariance, its eigenvectors.

All sums are accumulated in float64: a plain float32 mean over CIFAR-10's pixels is wrong in the
first digit (it stops growing once the sum is large).
"""

from collections.abc import Iterator

import numpy as np

FLAT = 1e-8  # a channel deviation below this, on [0, 1] pixels, counts as zero
CHUNK_BYTES = 48 << 20


def channel_moments(images: np.ndarray, pixel_max: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased (n - 1) deviation per channel over (n, h, w), pixels scaled to [0, 1].

    images (n, h, w, c) raw; returns float64 (c,), (c,). A channel without variance gets 1.
    """
    channels = images.shape[-1]
    count = images.size // channels
    total = np.zeros(channels)
    for chunk in chunks(images):
        total += _pixels(chunk, pixel_max).sum(axis=0)
    mean = total / count
    squares = np.zeros(channels)
    for chunk in chunks(images):
        squares += np.square(_pixels(chunk, pixel_max) - mean).sum(axis=0)
    std = np.sqrt(squares / max(count - 1, 1))
    return mean, np.where(std < FLAT, 1.0, std)


def pixel_moments(images: np.ndarray, pixel_max: float) -> np.ndarray:
    """Mean image (h, w, c) over n, float64, pixels scaled to [0, 1]."""
    total = np.zeros(images.shape[1:])
    for chunk in chunks(images):
        total += chunk.sum(axis=0, dtype=np.float64)
    return total / (len(images) * pixel_max)


def covariance(batches: Iterator[np.ndarray], dimension: int) -> np.ndarray:
    """X^T X / n in float64 (d, d) from float32 batches (b, d); the per-pixel mean is not removed.

    The product of one batch is taken in float32, the sum over batches in float64.
    """
    total = np.zeros((dimension, dimension))
    count = 0
    for batch in batches:
        total += batch.T @ batch
        count += len(batch)
    total /= count
    return total


def whitening(cov: np.ndarray, zca: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors U (d, d) float32 and eigenvalues s (d,) float64 of Cov + a I.

    a = zca * trace(Cov) / d; the whitening matrix is W = U diag(s^-1/2) U^T. Overwrites cov.
    """
    dimension = len(cov)
    cov[np.diag_indices(dimension)] += zca * np.trace(cov) / dimension
    eigenvalues, eigenvectors = np.linalg.eigh(cov)
    return eigenvectors.astype(np.float32), eigenvalues


def chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    """Slices of the first axis, small enough that a float64 copy of one stays in the tens of MB."""
    size = max(1, CHUNK_BYTES // (8 * int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _pixels(images: np.ndarray, pixel_max: float) -> np.ndarray:
    return images.reshape(-1, images.shape[-1]).astype(np.float64) / pixel_max
