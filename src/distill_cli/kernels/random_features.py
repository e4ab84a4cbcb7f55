"""Random-feature NNGP: an average over N finite random networks in place of the exact kernel.

K(x, x') = w^2 <Phi(x), Phi(x')> + b^2,   Phi(x) = [h_1(x), ..., h_N(x)] / sqrt(N d),

h_m(x) being the d activations of random network m after its last layer before the read-out, and
w^2 = 2, b^2 = 0.01 the variances of the read-out, whose average is taken exactly (RFAD section 3;
released code). The error against the exact NNGP falls like 1 / sqrt(N C) with C channels.

Networks run one after another: vmap over convolution weights becomes a grouped convolution, 7 to 9
times slower on a CPU. Images run in micro-batches, so that activations stay in the cache and memory
is bounded by `micro`, not by the batch size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    feature_shape,
    widest_activation,
)
from distill_cli.config import at_least

Params = Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class Config:
    """networks: random networks averaged by one kernel, N."""

    name: str = "random_features"
    networks: int = 8

    def __post_init__(self) -> None:
        at_least("kernel.networks", self.networks, 1)


def sample_network(
    architecture: Architecture, key: PRNGKeyArray, image_shape: tuple[int, int, int]
) -> list[tuple[Array, Array]]:
    """(weight, bias) of every parametric layer: N(0, w^2 / fan_in) and N(0, b^2), float32."""
    params = []
    shape: tuple[int, ...] = image_shape
    for index, layer in enumerate(architecture.layers):
        if isinstance(layer, Conv | Dense):
            window = (3, 3) if isinstance(layer, Conv) else ()
            fan_in = shape[-1] * (9 if isinstance(layer, Conv) else 1)
            key_w, key_b = jax.random.split(jax.random.fold_in(key, index))
            weight = jax.random.normal(key_w, (*window, shape[-1], layer.width), jnp.float32)
            bias = jax.random.normal(key_b, (layer.width,), jnp.float32)
            scale = (architecture.weight_variance / fan_in) ** 0.5
            params.append((weight * scale, bias * architecture.bias_variance**0.5))
        shape = feature_shape(Architecture(architecture.layers[: index + 1]), image_shape)
    return params


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """2x2 average, stride 2, odd edge dropped. reduce_window is XLA's fastest form on CPU."""
    window = (1, 2, 2, 1)
    zero = np.zeros((), x.dtype)  # a constant, or XLA's sum loses its gradient
    return lax.reduce_window(x, zero, lax.add, window, window, "VALID") * 0.25


def network_features(
    architecture: Architecture, params: Params, x: Float[Array, "n h w c"]
) -> Float[Array, "n feature"]:
    """h(x): activations of one network after the description's last layer."""
    weights = iter(params)
    for layer in architecture.layers:
        match layer:
            case Conv():
                weight, bias = next(weights)
                dims = ("NHWC", "HWIO", "NHWC")
                x = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=dims)
                x = x + bias.reshape(1, 1, 1, -1)
            case Dense():
                weight, bias = next(weights)
                x = x @ weight + bias.reshape(1, -1)
            case Relu():
                x = jax.nn.relu(x)
            case AvgPool():
                x = average_pool(x)
            case Flatten():
                x = x.reshape(x.shape[0], -1)
            case GlobalAvgPool():
                x = x.mean((1, 2))
    return x


@dataclass(frozen=True)
class RandomFeatureKernel:
    """The empirical NNGP of `networks` random networks of one architecture.

    `sample(key)` draws all networks, `features` maps images to Phi, `gram` multiplies features.
    """

    architecture: Architecture
    image_shape: tuple[int, int, int]
    networks: int

    @property
    def dim(self) -> int:
        """Features of one network, d."""
        (size,) = feature_shape(self.architecture, self.image_shape)
        return size

    def sample(self, key: PRNGKeyArray) -> Any:
        """Parameters of N networks, stacked along a leading axis."""
        draw = partial(sample_network, self.architecture, image_shape=self.image_shape)
        keys = jax.vmap(partial(jax.random.fold_in, key))(
            jnp.arange(self.networks, dtype=jnp.uint32)
        )
        return jax.vmap(lambda k: draw(key=k))(keys)

    def features(
        self, params: Any, x: Float[Array, "n h w c"], micro: int | None = None
    ) -> Float[Array, "n feature"]:
        """Phi(x), (n, N d). Differentiable; activations are recomputed in the backward pass.

        micro: images at a time (None: all at once). n need not be a multiple of it.
        """
        one = jax.checkpoint(partial(network_features, self.architecture))
        n = x.shape[0]
        micro = min(micro or n, n)
        pieces = -(-n // micro)
        padded = jnp.pad(x, ((0, pieces * micro - n), (0, 0), (0, 0), (0, 0)))
        blocks = padded.reshape(pieces, micro, *x.shape[1:])

        def all_blocks(weights: Params) -> Array:
            if pieces == 1:
                return one(weights, blocks[0])
            return lax.map(partial(one, weights), blocks).reshape(pieces * micro, -1)

        phi = lax.map(all_blocks, params)  # (N, n, d)
        phi = jnp.moveaxis(phi[:, :n], 0, 1).reshape(n, -1)
        return phi * (1.0 / (self.networks * self.dim) ** 0.5)

    def gram(
        self, phi1: Float[Array, "n feature"], phi2: Float[Array, "m feature"]
    ) -> Float[Array, "n m"]:
        """K = w^2 Phi1 Phi2^T + b^2."""
        arch = self.architecture
        return arch.weight_variance * (phi1 @ phi2.T) + arch.bias_variance


def cache_sized_micro(architecture: Architecture, image_shape: tuple[int, int, int]) -> int:
    """Images per micro-batch whose largest activation is about 8 MB of float32.

    Measured best on CPUs for 32 to 256 channels: larger blocks fall out of the cache (half the
    rate), smaller ones starve the matrix kernels.
    """
    widest = widest_activation(architecture, image_shape)
    return max(8, min(1024, 2 ** ((8 * 2**20 // (4 * widest)).bit_length() - 1)))
