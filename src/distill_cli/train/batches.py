"""The training set on the device, and the uniform draws from it inside the jitted loop.

Samplers (train/samplers) decide which rows make a batch; what they share is here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from distill_cli.core.types import Batch
from distill_cli.data.preprocess import Preprocess, PreprocessArrays, apply

RESIDENT_BYTES = 2 * 2**30  # preprocessed float32 sets up to this size are kept as they are


class ClassTable(NamedTuple):
    """Where the images of each class are.

    rows: (classes, widest) int32, the rows of each class ascending, padded with the class's first;
    counts: (classes,) int32, how many of them are real.
    """

    rows: Array
    counts: Array


class TrainingSet(NamedTuple):
    """images: (n, h, w, c), preprocessed float32 (transform None) or raw with the transform to
    apply to each batch; labels: (n,) int32; by_class: its rows class by class."""

    images: Array
    labels: Array
    transform: PreprocessArrays | None
    by_class: ClassTable

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channel)."""
        height, width, channel = self.images.shape[1:]
        return height, width, channel

    def take(self, rows: Array) -> Array:
        """Preprocessed images of these rows."""
        images = self.images[rows]
        return images if self.transform is None else apply(self.transform, images)

    def batch(self, rows: Array, weights: Array) -> Batch:
        """The images and labels of these rows, with these weights in the loss."""
        return Batch(self.take(rows), self.labels[rows], weights.astype(jnp.float32))


def training_set(
    preprocess: Preprocess, raw: np.ndarray, preprocessed: np.ndarray | None, labels: np.ndarray
) -> TrainingSet:
    """Put the split on the device: preprocessed where it was affordable, raw otherwise."""
    device_labels = jnp.asarray(labels, jnp.int32)
    by_class = class_table(np.asarray(labels))
    if preprocessed is not None:
        return TrainingSet(jnp.asarray(preprocessed), device_labels, None, by_class)
    transform = jax.device_put(preprocess.arrays)
    return TrainingSet(jnp.asarray(raw), device_labels, transform, by_class)


def class_table(labels: np.ndarray) -> ClassTable:
    """The table of labels (n,), one line for each class that occurs, in ascending order."""
    present, counts = np.unique(labels, return_counts=True)
    rows = np.empty((len(counts), counts.max()), np.int32)
    for line, label in enumerate(present):
        members = np.flatnonzero(labels == label)
        rows[line, : len(members)] = members
        rows[line, len(members) :] = members[0]
    return ClassTable(jnp.asarray(rows), jnp.asarray(counts, jnp.int32))


def fits_resident(raw: np.ndarray) -> bool:
    """Whether the preprocessed split is small enough to be kept as float32."""
    return raw.size * 4 <= RESIDENT_BYTES


def draw(key: PRNGKeyArray, train: TrainingSet, size: int, number: int) -> Batch:
    """`number` draws of `size` images, each without replacement, draws independent (RFAD code)."""
    n = train.labels.shape[0]
    size = min(size, n)
    picked = jax.vmap(lambda one: uniform_rows(one, n, size))(jax.random.split(key, number))
    return train.batch(picked.reshape(-1), jnp.ones(number * size, jnp.float32))


def draw_balanced(key: PRNGKeyArray, train: TrainingSet, size: int, number: int) -> Batch:
    """`number` draws of `size` images with equal numbers of every class, class-major.

    Each class has size // classes images in a draw; the remainder goes to classes drawn at random,
    one image each, so that the draw's size is fixed. Inside a class without replacement; a class
    with fewer images than its share repeats them. Where size is a multiple of the number
    of classes, the batch is (number, classes, size / classes) images in this order.
    """
    size, classes = min(size, train.labels.shape[0]), train.by_class.counts.shape[0]

    def rows(key: Any) -> Array:
        key_quota, key_rows = jax.random.split(key)
        label, rank = balanced_slots(key_quota, size, classes)
        return rows_by_class(key_rows, train.by_class, label, rank, -(-size // classes))

    picked = jax.vmap(rows)(jax.random.split(key, number)).reshape(-1)
    return train.batch(picked, jnp.ones(picked.shape, jnp.float32))


def uniform_rows(key: Any, n: int, size: int) -> Array:
    """`size` of the rows 0..n-1, uniformly without replacement.

    The `size` largest of n uniform numbers are a uniform draw; top_k costs 1 ms for 60,000 where a
    permutation costs 70.
    """
    return jax.lax.top_k(jax.random.uniform(key, (n,), jnp.float32), size)[1]


def rows_by_class(key: Any, table: ClassTable, label: Array, rank: Array, most: int) -> Array:
    """Rows of the places (label, rank), class-major: of each class its first ranks in a random
    order, which repeats where a class has fewer images than places. most: places of
    one class, at most."""
    widest = table.rows.shape[1]
    most = min(most, widest)
    real = jnp.arange(widest, dtype=jnp.int32)[None] < table.counts[:, None]
    order = jnp.where(real, jax.random.uniform(key, real.shape, jnp.float32), -1)
    places = jax.lax.top_k(order, most)[1]
    return table.rows[label, places[label, rank % table.counts[label]]]


def balanced_slots(key: Any, size: int, classes: int) -> tuple[Array, Array]:
    """(label, rank inside the class) of the places of a class-balanced draw, class-major.

    The size % classes places that are left over go to different classes, drawn at random.
    """
    base, extra = divmod(size, classes)
    quota = jnp.full(classes, base, jnp.int32)
    if extra:
        quota = quota.at[uniform_rows(key, classes, extra)].add(1)
    label = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), quota, total_repeat_length=size)
    start = jnp.cumsum(quota) - quota
    return label, (jnp.arange(size) - start[label]).astype(jnp.int32)
