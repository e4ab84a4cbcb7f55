"""Which images of a coreset are in the batch of a step, as a function of (key, step)."""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array


@dataclass(frozen=True)
class Batching:
    """How n images are visited, `size` at a time.

    epochs: each epoch a new random order, cut into batches; the last batch of an epoch is smaller
    where `size` does not divide n. ordered: the same without shuffling. stream: one endless row of
    random orders from which each batch takes the next `size` images, so that a batch of a small
    coreset contains images several times.
    """

    order: Literal["epochs", "ordered", "stream"]
    size: int


def steps_per_epoch(batching: Batching, n: int) -> int:
    """Batches in one pass over n images."""
    return math.ceil(n / batching.size)


def rows_of_step(batching: Batching, key: Array, step: Array, n: int) -> tuple[Array, Array]:
    """(rows, weights) of a step: int32 and float32 of a fixed length, weights summing to 1.

    A row of weight 0 fills up a smaller batch; it repeats a row of the same batch.
    """
    size = batching.size
    if batching.order == "stream":
        return _stream(key, step, n, size)
    if n <= size:
        return jnp.arange(n, dtype=jnp.int32), jnp.full(n, 1 / n, jnp.float32)
    per_epoch = steps_per_epoch(batching, n)
    first = step % per_epoch * size
    count = jnp.minimum(size, n - first)
    at = jnp.arange(size, dtype=jnp.int32)
    rows = first + at % count
    if batching.order == "epochs":
        rows = permutation(key, step // per_epoch, n)[rows]
    return rows, (at < count).astype(jnp.float32) / count.astype(jnp.float32)


def _stream(key: Array, step: Array, n: int, size: int) -> tuple[Array, Array]:
    """Positions step*size .. +size of the row of random orders.

    A batch that holds an image k times weighs it k / size: all images once, with weights, where
    the coreset is no larger than the batch.
    """
    first = step * size
    epochs = first // n + jnp.arange(size // n + 2, dtype=jnp.int32)
    orders = jax.vmap(lambda epoch: permutation(key, epoch, n))(epochs).reshape(-1)
    rows = jax.lax.dynamic_slice(orders, (first % n,), (size,))
    if n > size:
        return rows, jnp.full(size, 1 / size, jnp.float32)
    counts = jnp.zeros(n, jnp.float32).at[rows].add(1.0)
    return jnp.arange(n, dtype=jnp.int32), counts / size


def permutation(key: Array, epoch: Array, n: int) -> Array:
    """The random order of an epoch, (n,) int32."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(n, dtype=jnp.int32))
