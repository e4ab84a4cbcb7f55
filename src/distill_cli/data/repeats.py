"""Test images that are also training images."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from distill_cli.data.cache import Arrays, cache_key, cached

if TYPE_CHECKING:
    from distill_cli.core.types import Dataset


def repeated_images(dataset: "Dataset", cache: bool = True) -> int:
    """`repeated` of a dataset's splits, kept in the cache under its fingerprint."""

    def build() -> Arrays:
        return {"count": np.array(repeated(dataset.train.images, dataset.test.images))}

    key = cache_key(fingerprint=dataset.fingerprint)
    return int(cached(f"repeats-{dataset.name}", key, build, cache)["count"])


def repeated(train: np.ndarray, test: np.ndarray) -> int:
    """How many images of `test` (n, h, w, c) are equal, value by value, to one of `train`."""
    if train.dtype != test.dtype or train.shape[1:] != test.shape[1:]:
        return 0
    known = set(map(digest, train))
    return sum(digest(image) in known for image in test)


def digest(image: np.ndarray) -> bytes:
    """Of an image's values."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
