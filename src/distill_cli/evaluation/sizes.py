"""How large a network is: its parameters, and how many images to run through it at once."""

import math
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Bytes of the widest float32 activation of one micro-batch. On a CPU small enough for the cache,
# smaller still where the backward pass keeps several; elsewhere it only bounds the memory.
FORWARD_BYTES = {"cpu": 16 << 20}
TRAINING_BYTES = {"cpu": 4 << 20}
OTHER_BYTES = 1 << 30


def parameters(variables: dict[str, Any]) -> int:
    """Number of trained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@lru_cache(maxsize=64)
def widest_activation(net: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Numbers in the largest activation of one image: outputs of all layers, nothing computed."""

    def run(key: jax.Array) -> Any:
        image = jnp.zeros((1, *image_shape), jnp.float32)
        _, seen = net.apply(net.init(key, image), image, capture_intermediates=True, mutable=True)
        return seen["intermediates"]

    shapes = jax.eval_shape(run, jax.random.key(0))
    return max(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def micro_batch(net: nn.Module, image_shape: tuple[int, ...], training: bool = False) -> int:
    """Images to compute at once, at least 1."""
    budgets = TRAINING_BYTES if training else FORWARD_BYTES
    budget = budgets.get(jax.default_backend(), OTHER_BYTES)
    return max(1, budget // (4 * widest_activation(net, tuple(image_shape))))
