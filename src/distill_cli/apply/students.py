"""Networks trained on a coreset or on raw images under an evaluation protocol, and their outputs.

The protocols report accuracies; the applications need the outputs for every image: which examples a
network knows (membership), which classes it forgets (continual learning).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from distill_cli.arch.network import in_micro_batches
from distill_cli.augment import dc as crops
from distill_cli.augment import dsa as families
from distill_cli.evaluation import dc, frepo
from distill_cli.evaluation.protocol import Networks, build_net, draw
from distill_cli.evaluation.sizes import micro_batch
from distill_cli.evaluation.trainer import Recipe, Variables, train


def recipe_of(protocol: str, config: Networks, dataset: str, shape: tuple[int, ...]) -> Recipe:
    """The training of dc, dsa or frepo on a set of `shape` (n, h, w, c)."""
    count, channels = shape[0], shape[-1]
    if isinstance(config, frepo.Config):
        return frepo.recipe(config, count, channels)
    assert isinstance(config, dc.Config)
    chosen = config.augmentation
    if chosen == "auto" and protocol == "dsa":
        chosen = families.default_strategy(dataset)
    elif chosen == "auto":
        chosen = crops.default_strategy(dataset, config.norm == "batch")
    plain = chosen in ("", "none")
    epochs = dc.epochs_of(config, plain)
    return dc.recipe(config, protocol, "none" if plain else chosen, epochs, count)


def student(
    recipe: Recipe,
    config: Any,
    images: Float[np.ndarray, "n h w c"],
    targets: Float[np.ndarray, "n class"],
    key: Array,
) -> tuple[nn.Module, Variables]:
    """A fresh network of the protocol's first architecture after its last update."""
    shape = tuple(images.shape[1:])
    net = build_net(config, config.architectures[0], targets.shape[1], shape)
    variables = draw(net, jax.random.fold_in(key, 0), shape)
    trained = train(
        net, recipe, images, targets, variables, jax.random.fold_in(key, 1), config.learning_rate
    )
    return net, trained.variables


def outputs(
    net: nn.Module, variables: Variables, images: Float[np.ndarray, "n h w c"]
) -> Float[np.ndarray, "n class"]:
    """Logits in float32, in micro-batches of one size."""
    size = min(len(images), micro_batch(net, tuple(images.shape[1:])))
    return in_micro_batches(lambda part: _apply(net, variables, part), images, size)


@partial(jax.jit, static_argnums=0)
def _apply(net: nn.Module, variables: Variables, images: Array) -> Any:
    return net.apply(variables, images, train=False)
