"""sampler=kmeans_batch: one image of each of as many clusters as the batch has places.

k-means in a low-dimensional feature space cuts the training set (or each class) into k clusters;
a draw takes one image of each. An image of cluster b is drawn with probability p_i = 1 / (k |b|) a
place and weighs v_i = 1 / (n p_i) = k |b| / n: stratified sampling, unbiased, with less variance
than uniform draws where features say something about the loss. pick=nearest takes the image next
to each centre in place of a random one, as DREAM does (Liu et al. 2023), which is not unbiased.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from distill_cli.config import Config as RunConfig
from distill_cli.config import at_least
from distill_cli.core.types import Batch
from distill_cli.errors import UserError
from distill_cli.init.kmeans import kmeans
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.train.batches import TrainingSet, balanced_slots
from distill_cli.train.samplers.losses import micro_of, run_architecture


@dataclass(frozen=True)
class Config:
    """balanced: equal numbers of every class, clusters of each class; features: of fresh random
    networks at each refresh, or pixels; dimensions: of the Gaussian projection in which clusters
    are found; iterations: Lloyd's; pick: which image of a cluster; reweight: weights v_i, else 1;
    refresh: steps between two clusterings."""

    name: str = "kmeans_batch"
    balanced: bool = False
    features: Literal["random_convnet", "pixels"] = "random_convnet"
    networks: int = 1
    dimensions: int = 64
    iterations: int = 5
    pick: Literal["random", "nearest"] = "random"
    reweight: bool = True
    refresh: int = 100

    def __post_init__(self) -> None:
        for key in ("networks", "dimensions", "iterations", "refresh"):
            at_least(f"sampler.{key}", getattr(self, key), 1)


class State(NamedTuple):
    """order: (n,) rows, cluster by cluster; start, count, centre: (clusters,) where each begins in
    it, how many images it has, and the row nearest to its centre."""

    order: Array
    start: Array
    count: Array
    centre: Array


@dataclass(frozen=True, eq=False)
class KMeansBatch:
    """The Sampler that draws one image per cluster."""

    config: Config
    run: RunConfig
    refresh: int

    def counts(self, train: TrainingSet) -> tuple[int, int, int]:
        """(images of a draw, groups that are clustered apart, clusters of each)."""
        n = train.labels.shape[0]
        size = min(self.run.batch.size, n)
        groups = train.by_class.counts.shape[0] if self.config.balanced else 1
        if size < groups:
            raise UserError(
                f"batch.size={size}: sampler=kmeans_batch with sampler.balanced=true needs at "
                f"least {groups}, one image of each class"
            )
        return size, groups, size // groups

    def init(self, train: TrainingSet) -> State:
        _, groups, k = self.counts(train)
        empty = jnp.zeros(groups * k, jnp.int32)
        n = train.labels.shape[0]
        return State(jnp.arange(n, dtype=jnp.int32), empty, empty, empty)

    def update(
        self, state: State, train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> tuple[State, dict[str, float]]:
        del state, distilled
        _, groups, k = self.counts(train)
        points = np.asarray(self._points(train, key))
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
        labels = np.asarray(train.labels) if groups > 1 else np.zeros(len(points), np.int64)
        cluster = np.empty(len(points), np.int64)
        centre = np.zeros(groups * k, np.int32)
        spread = 0.0
        for group in range(groups):
            rows = np.flatnonzero(labels == group)
            most = min(k, len(rows))
            found = kmeans(points[rows], most, generator, self.config.iterations, plusplus=False)
            cluster[rows] = found.assignment + group * k
            spread += float(found.squared.sum())
            order = np.lexsort((found.squared, found.assignment))
            present, first = np.unique(found.assignment[order], return_index=True)
            centre[present + group * k] = rows[order[first]]
        count = np.bincount(cluster, minlength=groups * k)
        order = np.argsort(cluster, kind="stable")
        tables = (order, np.cumsum(count) - count, count, centre)
        total = float(((points - points.mean(0)) ** 2).sum())
        values = {"sampler_within": spread / total if total > 0 else 0.0}
        return State(*(jnp.asarray(table, jnp.int32) for table in tables)), values

    @partial(jax.jit, static_argnames="self")
    def _points(self, train: TrainingSet, key: PRNGKeyArray) -> Array:
        """Features of all images in `dimensions` Gaussian directions, (n, dimensions) float32."""
        config, shape = self.config, train.image_shape
        key_networks, key_directions = jax.random.split(key)
        n, micro = train.labels.shape[0], micro_of(self.run, shape)
        micro = min(micro, n)
        kernel = RandomFeatureKernel(run_architecture(self.run), shape, config.networks)
        networks = kernel.sample(key_networks)
        pixels = config.features == "pixels"
        size = int(np.prod(shape)) if pixels else kernel.dim * config.networks
        scale = config.dimensions**-0.5
        directions = scale * jax.random.normal(
            key_directions, (size, config.dimensions), jnp.float32
        )
        pieces = -(-n // micro)
        rows = (jnp.arange(pieces * micro) % n).reshape(pieces, micro)

        def one(part: Array) -> Array:
            images = train.take(part)
            phi = images.reshape(micro, -1) if pixels else kernel.features(networks, images)
            return phi @ directions

        return jax.lax.map(one, rows).reshape(-1, config.dimensions)[:n]

    def draw(self, state: State, train: TrainingSet, distilled: Any, key: PRNGKeyArray) -> Batch:
        del distilled
        size, groups, k = self.counts(train)
        n = train.labels.shape[0]

        def places(key: Any) -> tuple[Array, Array]:
            key_quota, key_rows = jax.random.split(key)
            group, rank = balanced_slots(key_quota, size, groups)
            cluster = group * k + jnp.minimum(rank, k - 1)
            at = jax.random.uniform(key_rows, (size,), jnp.float64)
            count = state.count[cluster]
            inside = jnp.minimum((at * count).astype(jnp.int32), jnp.maximum(count - 1, 0))
            picked = state.order[jnp.minimum(state.start[cluster] + inside, n - 1)]
            if self.config.pick == "nearest":
                picked = state.centre[cluster]
            held = train.by_class.counts[group] if groups > 1 else jnp.full(size, n)
            weight = k * count / held if self.config.reweight else (count > 0).astype(jnp.float64)
            if groups == 1:
                return picked, weight
            # Places beyond k of a class that got one of the left-over images: any image of it.
            anywhere = jnp.minimum((at * held).astype(jnp.int32), held - 1)
            left_over = train.by_class.rows[group, anywhere]
            return jnp.where(rank < k, picked, left_over), jnp.where(rank < k, weight, 1.0)

        keys = jax.random.split(key, self.run.batch.number)
        rows, weights = jax.vmap(places)(keys)
        return train.batch(rows.reshape(-1), weights.reshape(-1))


def make(config: Any, run: RunConfig, distiller: Any) -> KMeansBatch:
    """The sampler of a configuration; it does not look at the method."""
    del distiller
    return KMeansBatch(config, run, config.refresh)
