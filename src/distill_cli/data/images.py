"""Resizing with Pillow: straight to a square, aspect ratio not kept, bilinear.

Pillow's bilinear filter widens with the scale, so shrinking is antialiased.
"""

import numpy as np


def resize(image: np.ndarray, size: int | None) -> np.ndarray:
    """One image (height, width, channel), uint8 or float32, to (size, size, channel)."""
    if size is None or image.shape[:2] == (size, size):
        return image
    from PIL import Image

    def channel(values: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(values))
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))

    return np.stack([channel(image[..., c]) for c in range(image.shape[-1])], axis=-1)


def resize_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """`resize` for (n, height, width, channel)."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    return np.stack([resize(image, size) for image in images])
