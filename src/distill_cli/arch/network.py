"""The trainable Flax network of an architecture description, in standard parametrisation."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distill_cli.arch.convolution import convolve
from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    widest_activation,
)

Params = Any  # the pytree that Network.init returns

# Bytes of the widest float32 activation of one micro-batch, per backend. On a CPU small enough
# for the cache (a larger one is half as fast), and smaller still where the backward pass keeps
# several of them; elsewhere it only bounds the memory.
_FORWARD_BYTES = {"cpu": 16 << 20}
_TRAINING_BYTES = {"cpu": 4 << 20}
_OTHER_BYTES = 1 << 30


class Network(nn.Module):
    """The layers of `architecture`, then a Dense read-out to `classes` outputs.

    Weights are drawn from N(0, weight_variance / fan_in) and biases from N(0, bias_variance)
    (RFAD section 3), so that over the draw of the read-out
    E[f(x) f(x')] = weight_variance <phi(x), phi(x')> / d + bias_variance.
    All parameters and activations are float32, whatever jax_enable_x64 says. Parameters:
    `hidden_<i>` for the i-th layer with weights, and `readout`, each {"kernel", "bias"}.
    """

    architecture: Architecture
    classes: int

    def setup(self) -> None:
        weighted = [y for y in self.architecture.layers if isinstance(y, Conv | Dense)]
        self.hidden = [self._weighted(layer) for layer in weighted]
        self.readout = self._weighted(Dense(self.classes))

    def _weighted(self, layer: Conv | Dense) -> nn.Module:
        variance, bias_variance = self.architecture.weight_variance, self.architecture.bias_variance
        kernel = nn.initializers.variance_scaling(variance, "fan_in", "normal")
        bias = nn.initializers.normal(bias_variance**0.5)
        if isinstance(layer, Conv):
            return _Conv3x3(layer.width, kernel, bias)
        return nn.Dense(
            layer.width,
            dtype=jnp.float32,
            param_dtype=jnp.float32,
            kernel_init=kernel,
            bias_init=bias,
        )

    def features(self, images: Float[Array, "n height width channel"]) -> Float[Array, "n d"]:
        """phi(x): what the read-out reads. `network.apply(params, x, method="features")`."""
        x = jnp.asarray(images, jnp.float32)
        weighted = iter(self.hidden)
        for layer in self.architecture.layers:
            match layer:
                case Conv() | Dense():
                    x = next(weighted)(x)
                case Relu():
                    x = nn.relu(x)
                case AvgPool():
                    x = nn.avg_pool(x, (2, 2), strides=(2, 2))  # VALID: odd sizes floor
                case Flatten():
                    x = x.reshape(x.shape[0], -1)
                case GlobalAvgPool():
                    x = x.mean((1, 2))
        return x

    def __call__(self, images: Float[Array, "n height width channel"]) -> Float[Array, "n classes"]:
        return self.readout(self.features(images))


def network(architecture: Architecture, classes: int) -> Network:
    """The Flax module of a description; hashable, so it can be a static argument of jit."""
    return Network(architecture, classes)


def with_width(architecture: Architecture, width: int) -> Architecture:
    """The same description with `width` channels or units in every hidden layer."""
    layers = (
        layer._replace(width=width) if isinstance(layer, Conv | Dense) else layer
        for layer in architecture.layers
    )
    return replace(architecture, layers=tuple(layers))


@partial(jax.jit, static_argnums=0)
def initialise(net: Network, key: Array, images: Array) -> Params:
    """net.init, compiled once per network; images (only their shape counts) may be one."""
    return net.init(key, images)


def predict(
    net: Network, params: Params, images: Float[np.ndarray, "n height width channel"]
) -> Float[np.ndarray, "n class"]:
    """Outputs of the network for host images, float32, computed in micro-batches."""
    micro = min(len(images), micro_batch(net.architecture, images.shape[1:]))
    return in_micro_batches(lambda part: _apply(net, params, part), images, micro)


def in_micro_batches(
    function: Callable[[Any], Array],
    images: Float[np.ndarray, "n height width channel"],
    micro: int,
) -> Float[np.ndarray, "n class"]:
    """function's rows for host images, `micro` of them at a time in float32."""
    outputs = []
    for first in range(0, len(images), micro):
        part = np.asarray(images[first : first + micro], np.float32)
        # The last one is filled up: one shape, one compilation.
        padded = np.pad(part, ((0, micro - len(part)), (0, 0), (0, 0), (0, 0)))
        outputs.append(np.asarray(function(padded))[: len(part)])
    return np.concatenate(outputs)


@partial(jax.jit, static_argnums=0)
def _apply(net: Network, params: Params, images: Array) -> Any:
    return net.apply(params, images)


def micro_batch(
    architecture: Architecture, image_shape: tuple[int, int, int], training: bool = False
) -> int:
    """Images to compute at once, at least 1: the widest activation keeps to the byte budget."""
    widest = widest_activation(architecture, image_shape)
    budgets = _TRAINING_BYTES if training else _FORWARD_BYTES
    return max(1, budgets.get(jax.default_backend(), _OTHER_BYTES) // (4 * widest))


class _Conv3x3(nn.Module):
    """3x3 convolution with zero padding 1 and bias."""

    width: int
    kernel_init: nn.initializers.Initializer
    bias_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (3, 3, x.shape[-1], self.width)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.width,), jnp.float32)
        return convolve(x, kernel, (1, 1)) + bias.reshape(1, 1, 1, -1)
