"""Test images that are also training images."""

import hashlib

import numpy as np


def repeated(train: np.ndarray, test: np.ndarray) -> int:
    """How many images of `test` (n, h, w, c) are equal, value by value, to one of `train`."""
    if train.dtype != test.dtype or train.shape[1:] != test.shape[1:]:
        return 0
    known = set(map(digest, train))
    return sum(digest(image) in known for image in test)


def digest(image: np.ndarray) -> bytes:
    """Of an image's values."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
