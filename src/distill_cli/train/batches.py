"""The training set on the device, and the batches drawn from it inside the jitted loop."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from distill_cli.core.types import Batch
from distill_cli.data.preprocess import Preprocess, PreprocessArrays, apply

RESIDENT_BYTES = 2 * 2**30  # preprocessed float32 sets up to this size are kept as they are


class TrainingSet(NamedTuple):
    """images: (n, h, w, c), preprocessed float32 (transform None) or raw with the transform to
    apply to each batch; labels: (n,) int32."""

    images: Array
    labels: Array
    transform: PreprocessArrays | None

    def take(self, rows: Array) -> Array:
        """Preprocessed images of these rows."""
        images = self.images[rows]
        return images if self.transform is None else apply(self.transform, images)


def training_set(
    preprocess: Preprocess, raw: np.ndarray, preprocessed: np.ndarray | None, labels: np.ndarray
) -> TrainingSet:
    """Put the split on the device: preprocessed where it was affordable, raw otherwise."""
    device_labels = jnp.asarray(labels, jnp.int32)
    if preprocessed is not None:
        return TrainingSet(jnp.asarray(preprocessed), device_labels, None)
    return TrainingSet(jnp.asarray(raw), device_labels, jax.device_put(preprocess.arrays))


def fits_resident(raw: np.ndarray) -> bool:
    """Whether the preprocessed split is small enough to be kept as float32."""
    return raw.size * 4 <= RESIDENT_BYTES


def draw(key: PRNGKeyArray, train: TrainingSet, size: int, number: int) -> Batch:
    """`number` draws of `size` images, each without replacement, draws independent (RFAD code).

    The `size` largest of n uniform numbers are a uniform draw; top_k costs 1 ms for 60,000 where a
    permutation costs 70.
    """
    n = train.labels.shape[0]
    size = min(size, n)

    def rows(key: Any) -> Array:
        return jax.lax.top_k(jax.random.uniform(key, (n,), jnp.float32), size)[1]

    picked = jax.vmap(rows)(jax.random.split(key, number)).reshape(-1)
    weights = jnp.ones(picked.shape, jnp.float32)
    return Batch(train.take(picked), train.labels[picked], weights)
