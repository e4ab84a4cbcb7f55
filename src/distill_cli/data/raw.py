"""What a source hands over: NumPy arrays as they were read, before any check that all share."""

import hashlib
from typing import NamedTuple

import numpy as np

from distill_cli.errors import UserError


class RawSplit(NamedTuple):
    """images (n, height, width, channel), uint8 or float32; labels (n,) int32.

    digest: content_digest of the two, "" where it is not known yet.
    """

    images: np.ndarray
    labels: np.ndarray
    digest: str = ""


class RawDataset(NamedTuple):
    """The splits of one source. test None: hold a part of train out."""

    train: RawSplit
    test: RawSplit | None
    valid: RawSplit | None
    class_names: tuple[str, ...]
    pixel_max: float


def content_digest(images: np.ndarray, labels: np.ndarray) -> str:
    """BLAKE2b (16 bytes, hex) over dtype, shape and values of images and labels."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (images, labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def rows(split: RawSplit, index: np.ndarray) -> RawSplit:
    """The given rows of a split, in that order."""
    return RawSplit(split.images[index], split.labels[index])


def hold_out(labels: np.ndarray, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split of rows 0..n-1 into (train, test), each in ascending order.

    Of every class round(fraction * count) rows go to test, at least one where the class has two.
    The draw depends on labels, fraction and seed only.
    """
    if not 0 < fraction < 1:
        raise UserError(f"dataset.test_fraction={fraction}: must lie between 0 and 1")
    rng = np.random.RandomState(seed)
    test: list[np.ndarray] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        test.append(rng.permutation(members)[:count])
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate(test)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def spread(labels: np.ndarray, limit: int) -> np.ndarray:
    """Rows of at most `limit` images, as evenly over the classes as there are images; ascending.

    The first image of every class, then the second of every class, and so on.
    """
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank))[:limit])
