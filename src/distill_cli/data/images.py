"""Resizing many images."""

import numpy as np

from distill_cli.data.standalone_load import resize


def resize_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """`resize` for (n, height, width, channel)."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    return np.stack([resize(image, size) for image in images])
