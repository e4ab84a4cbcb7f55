"""The 1,797 handwritten digits that come with scikit-learn: 8x8x1, grey values 0..16.

Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998 (its test
part). No files, no network.
"""

from typing import Any

import numpy as np

from distill_cli.data.config import DatasetConfig
from distill_cli.data.images import resize_all
from distill_cli.data.raw import RawDataset, RawSplit


def read(config: DatasetConfig) -> RawDataset:
    """Raw values as uint8; without a test split of its own (test_fraction decides)."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = resize_all(digits.images.astype(np.uint8)[..., None], config.image_size)
    train = RawSplit(images, digits.target.astype(np.int32))
    return RawDataset(train, None, None, tuple(str(digit) for digit in range(10)), pixel_max=16.0)
