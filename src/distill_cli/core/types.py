"""The nouns that travel between the parts: datasets, batches, coresets, metrics."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

Array = Any  # jax or NumPy: coresets and batches travel between device and host


class Split(NamedTuple):
    """One split as it is read: raw pixels, integer labels.

    images: (n, height, width, channel), uint8, or float32 where the user's own file holds floats.
    labels: (n,) int32 in [0, classes).
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A dataset in host memory.

    pixel_max is the raw value of full brightness (255 for uint8, 16 for digits, 1 for floats).
    fingerprint identifies the pixels and labels (name, version, sizes) for caches and digests.
    valid is the official validation split where the dataset has one of its own (CelebA).
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    pixel_max: float
    fingerprint: str
    valid: Split | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channel)."""
        height, width, channel = self.train.images.shape[1:]
        return height, width, channel

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def present(self) -> np.ndarray:
        """Classes that have training images, ascending: all of them, unless dataset.classes leaves
        some out and keeps the labels' width."""
        return np.unique(self.train.labels)


class Coreset(NamedTuple):
    """A distilled set, in the preprocessed space its kernel sees.

    images: (coreset, height, width, channel) float32.
    labels: (coreset, class) regression targets; one-hot minus 1/classes at the start.
    log_temperature: scalar k; outputs are multiplied by exp(k) before the softmax. 0 where unused.
    """

    images: Float[Array, "coreset height width channel"]
    labels: Float[Array, "coreset class"]
    log_temperature: Float[Array, ""]


class Batch(NamedTuple):
    """Preprocessed training images with integer labels.

    weights are 1, or 1 / (n p_i) when image i was drawn with probability p_i.
    """

    images: Float[Array, "batch height width channel"]
    labels: Int[Array, " batch"]
    weights: Float[Array, " batch"]


@dataclass(frozen=True)
class Metric:
    """One evaluation: accuracy in [0, 1] with its spread over n repetitions.

    confusion: (class, class) whole numbers, test images by their true class (row) and the predicted
    one (column), summed over the n networks.
    """

    protocol: str
    accuracy: float
    std: float | None
    n: int
    images: int
    seconds: float
    nll: float | None = None
    ece: float | None = None
    detail: dict[str, object] = field(default_factory=dict)
    confusion: Int[np.ndarray, "class class"] | None = field(default=None, compare=False)


def one_hot_centred(labels: Int[Array, " n"], classes: int) -> Float[jax.Array, "n class"]:
    """Regression targets of the kernel methods: one-hot minus 1/classes, float32 (RFAD code)."""
    return jax.nn.one_hot(labels, classes, dtype="float32") - np.float32(1.0 / classes)
