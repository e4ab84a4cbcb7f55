"""The N drawn networks of a random-feature kernel, as a training step uses them.

    K = w^2 / (N d) sum_m <h_m(x), h_m(x')> + b^2

Features stay apart, network by network, (networks, n, d): what is summed over networks, kernel
matrices and gradients of images, is summed in the order of the networks (shares.py), so that the
networks may lie on one device or be shared out over many.

Both functions bring their own derivative. Of the features' only the images are differentiated, one
network and micro-batch at a time from recomputed activations; of the kernel matrix both factors.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.kernels.micro_batches import in_micro_batches
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.kernels.shares import ALONE, NETWORK, Shares, each, ordered_sum

Features = Float[Array, "network n d"]


@dataclass(frozen=True)
class Ensemble:
    """A kernel and how its networks are shared out. The methods run on every device of the mesh,
    inside `shares.spread`; `features` and what `gram` takes are this device's share."""

    kernel: RandomFeatureKernel
    shares: Shares = ALONE

    @property
    def axis(self) -> str | None:
        return self.shares.axis(NETWORK)

    def sample(self, key: PRNGKeyArray) -> Any:
        """This device's networks. Shares are padded with further networks to equal numbers; sums
        leave those out."""
        size = -(-self.kernel.networks // self.shares.size(NETWORK))
        first = 0 if self.axis is None else lax.axis_index(self.axis) * size
        loop = partial(each, axis=self.axis)
        return self.kernel.sample_some(key, first + jnp.arange(size), loop)

    def features(self, params: Any, x: Float[Array, "n h w c"], micro: int | None) -> Features:
        """h of this device's networks. Differentiable in x, whose gradient is summed over all
        networks. micro: images at a time."""
        return _features(self.kernel, self.axis, micro, params, x)

    def gram(self, h1: Features, h2: Features) -> Float[Array, "n1 n2"]:
        """K of the images behind h1 and h2, summed over all networks; products in float32 (float64
        where the features are), whatever precision the features have."""
        return _gram(self.kernel, self.axis, h1, h2)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _features(kernel: Any, axis: Any, micro: Any, params: Any, x: Any) -> Array:
    return kernel.by_network(params, x, micro, partial(each, axis=axis))


def _features_forward(kernel: Any, axis: Any, micro: Any, params: Any, x: Any) -> Any:
    return _features(kernel, axis, micro, params, x), (params, x)


def _features_backward(kernel: Any, axis: Any, micro: Any, saved: Any, d_h: Array) -> Any:
    params, x = saved

    def pull(operands: Any) -> Array:
        weights, d_rows = operands

        def block(x: Array, d_rows: Array) -> Array:
            _, back = jax.vjp(partial(kernel.network, weights), x)
            return back(d_rows)[0]

        return in_micro_batches(block, micro, x, d_rows)

    return None, ordered_sum(pull, (params, d_h), kernel.networks, axis)


_features.defvjp(_features_forward, _features_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gram(kernel: Any, axis: Any, h1: Features, h2: Features) -> Array:
    def product(pair: Any) -> Array:
        return jnp.matmul(pair[0], pair[1].T, precision="highest")

    total = ordered_sum(product, (h1, h2), kernel.networks, axis)
    return total * kernel.scale + kernel.architecture.bias_variance


def _gram_forward(kernel: Any, axis: Any, h1: Features, h2: Features) -> Any:
    return _gram(kernel, axis, h1, h2), (h1, h2)


def _gram_backward(kernel: Any, axis: Any, saved: Any, d_k: Array) -> Any:
    h1, h2 = saved
    d_k = d_k * kernel.scale
    d_h1 = each(lambda h: jnp.matmul(d_k, h, precision="highest"), h2, axis)
    d_h2 = each(lambda h: jnp.matmul(d_k.T, h, precision="highest"), h1, axis)
    return d_h1, d_h2


_gram.defvjp(_gram_forward, _gram_backward)
