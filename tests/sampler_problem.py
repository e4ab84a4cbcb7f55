"""A small problem on which samplers are tried."""

import jax.numpy as jnp
import numpy as np

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.types import Coreset, one_hot_centred
from distill_cli.methods.base import Setting, make_distiller
from distill_cli.train.batches import TrainingSet, class_table

SHAPE = (6, 6, 1)
TINY = [
    "method=rfad", "kernel.networks=2", "validation.networks=2", "architecture.width=4",
    "architecture.depth=1", "batch.size=12", "batch.number=2", "validation.every=4",
]  # fmt: skip
rng = np.random.default_rng(0)
LABELS = rng.permutation(np.repeat(np.arange(3), [20, 30, 14])).astype(np.int32)
IMAGES = (rng.normal(size=(64, *SHAPE)) + LABELS[:, None, None, None]).astype(np.float32)
COUNTS = np.bincount(LABELS)


def parsed(*options: str):
    return parse(compose("config", [*TINY, *options]))


def distiller(config):
    return make_distiller(Setting(config, convnet(4, 1), SHAPE, 3, 8))


def training() -> TrainingSet:
    return TrainingSet(jnp.asarray(IMAGES), jnp.asarray(LABELS), None, class_table(LABELS))


def start() -> Coreset:
    rows = np.concatenate([np.flatnonzero(label == LABELS)[:1] for label in range(3)])
    targets = one_hot_centred(jnp.asarray(LABELS[rows]), 3)
    return Coreset(jnp.asarray(IMAGES[rows]), targets, jnp.zeros((), jnp.float64))


def rows_of(batch) -> np.ndarray:
    """Which training image each image of the batch is."""
    flat, mine = IMAGES.reshape(64, -1), np.asarray(batch.images).reshape(-1, 36)
    return np.abs(mine[:, None] - flat[None]).sum(-1).argmin(1)


class Mean:
    """A method that costs nothing to compile: the coreset moves to the weighted mean of batches,
    and an image's loss is its squared first pixel, times what the coreset's mean adds."""

    def init(self, key, coreset):
        del key
        return coreset

    def step(self, state, batch, key):
        del key
        weights = batch.weights.reshape(-1, 1, 1, 1)
        mean = jnp.mean(batch.images * weights, 0, keepdims=True)
        info = {"loss": jnp.mean(mean**2), "accuracy": jnp.zeros(())}
        return state._replace(images=state.images + 0.1 * (mean - state.images)), info

    def coreset(self, state):
        return state

    def losses(self, state, images, labels, key):
        del labels, key
        return images[:, 0, 0, 0] ** 2 * (1 + jnp.mean(state.images) ** 2)

    def validator(self, key, images, labels):
        del key, images, labels
        return lambda coreset: {
            "valid_loss": jnp.mean(coreset.images**2),
            "valid_accuracy": jnp.zeros(()),
        }

    def flops(self, batch, coreset):
        del batch, coreset
        return 0.0
