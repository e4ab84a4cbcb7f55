"""The N drawn networks of a random-feature kernel, as a training step uses them.

    K = w^2 / (N d) sum_m <h_m(x), h_m(x')> + b^2

Features stay apart, network by network, (networks, n, d): what is summed over networks, kernel
matrices and gradients of images, is summed in the order of the networks (shares.py), so that the
networks may lie on one device or be shared out over many.

Both functions bring their own derivative. Of the features' only the images are differentiated, one
network and micro-batch at a time from recomputed activations; of the kernel matrix both factors.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.kernels import products
from distill_cli.kernels.micro_batches import in_micro_batches
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.kernels.shares import (
    ALONE,
    NETWORK,
    Shares,
    each,
    each_gathered,
    ordered_sum,
    own_part,
)

Features = Float[Array, "network n d"]
# On an accelerator, what is done network by network is written out instead of a loop up to so many
# networks and bytes of their results. A loop copies a network's parameters and features before it
# uses them, and has launches of its own; written out, all results are in memory at once, and XLA
# has more to compile.
WRITTEN_OUT, WRITTEN_OUT_BYTES = 32, 2**30


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
        loop = partial(each, axis=self.axis) if _on_cpu() else _at_once
        return self.kernel.sample_some(key, first + jnp.arange(size), loop)

    def features(self, params: Any, x: Float[Array, "n h w c"], micro: int | None) -> Features:
        """h of this device's networks. Differentiable in x, whose gradient is summed over all
        networks. micro: images at a time."""
        return _features(self.kernel, self.axis, micro, params, x)

    def gram(self, h1: Features, h2: Features) -> Float[Array, "n1 n2"]:
        """K of the images behind h1 and h2, summed over all networks; products at the accuracy of
        float32 (products.py; float64 where the features are), whatever precision the features
        have."""
        if h1 is h2 and not _on_cpu():
            return _gram_alone(self.kernel, self.axis, h1)
        return _gram(self.kernel, self.axis, h1, h2)

    def grams(self, h1: Features, h2: Features) -> Float[Array, "network n1 n2"]:
        """The kernel of each network alone, whose mean is `gram`; of all networks, on every
        device."""
        return _grams(self.kernel, self.shares, h1, h2)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _features(kernel: Any, axis: Any, micro: Any, params: Any, x: Any) -> Array:
    networks = jax.tree.leaves(params)[0].shape[0]
    unroll = _written_out(x.dtype, networks)  # the features of all are in memory in any case
    return kernel.by_network(params, x, micro, partial(each, axis=axis, unroll=unroll))


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

    unroll = _written_out(d_h.dtype, *d_h.shape)
    return None, ordered_sum(pull, (params, d_h), kernel.networks, axis, unroll)


_features.defvjp(_features_forward, _features_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gram(kernel: Any, axis: Any, h1: Features, h2: Features) -> Array:
    def product(pair: Any) -> Array:
        return _multiply(kernel, pair[0], pair[1].T)

    unroll = _written_out(h1.dtype, h1.shape[0], h1.shape[1], h2.shape[1])
    total = ordered_sum(product, (h1, h2), kernel.networks, axis, unroll)
    return total * kernel.scale + kernel.architecture.bias_variance


def _gram_forward(kernel: Any, axis: Any, h1: Features, h2: Features) -> Any:
    return _gram(kernel, axis, h1, h2), (h1, h2)


def _gram_backward(kernel: Any, axis: Any, saved: Any, d_k: Array) -> Any:
    h1, h2 = saved
    d_k = d_k * kernel.scale
    return _by_network(kernel, axis, d_k, h2), _by_network(kernel, axis, d_k, h1, transposed=True)


_gram.defvjp(_gram_forward, _gram_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gram_alone(kernel: Any, axis: Any, h: Features) -> Array:
    """_gram(h, h), with one product of a network in its derivative, (dK + dK^T) h, in place of
    two."""
    return _gram(kernel, axis, h, h)


def _gram_alone_forward(kernel: Any, axis: Any, h: Features) -> Any:
    return _gram_alone(kernel, axis, h), h


def _gram_alone_backward(kernel: Any, axis: Any, h: Features, d_k: Array) -> Any:
    return (_by_network(kernel, axis, (d_k + d_k.T) * kernel.scale, h),)


_gram_alone.defvjp(_gram_alone_forward, _gram_alone_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _grams(kernel: Any, shares: Shares, h1: Features, h2: Features) -> Array:
    def product(pair: Any) -> Array:
        return _multiply(kernel, pair[0], pair[1].T)

    unroll = _written_out(h1.dtype, h1.shape[0], h1.shape[1], h2.shape[1])
    axis = shares.axis(NETWORK)
    found = each_gathered(product, (h1, h2), kernel.networks, axis, unroll)
    return found * (kernel.scale * kernel.networks) + kernel.architecture.bias_variance


def _grams_forward(kernel: Any, shares: Shares, h1: Features, h2: Features) -> Any:
    return _grams(kernel, shares, h1, h2), (h1, h2)


def _grams_backward(kernel: Any, shares: Shares, saved: Any, d_k: Array) -> Any:
    axis = shares.axis(NETWORK)
    own = own_part(d_k * (kernel.scale * kernel.networks), axis, shares.size(NETWORK))
    unroll = _written_out(saved[0].dtype, *saved[0].shape)

    def product(transposed: bool, pair: Any) -> Array:
        d_k, h = lax.optimization_barrier(pair) if unroll else pair
        return _multiply(kernel, d_k.T if transposed else d_k, h)

    def pull(h: Array, transposed: bool) -> Array:
        return each(partial(product, transposed), (own, h), axis, unroll)

    return pull(saved[1], False), pull(saved[0], True)


_grams.defvjp(_grams_forward, _grams_backward)


def _by_network(
    kernel: Any, axis: Any, d_k: Array, h: Features, transposed: bool = False
) -> Features:
    """d_k h_m of each network m, or d_k^T h_m."""
    rows = d_k.shape[1 if transposed else 0]
    unroll = _written_out(h.dtype, h.shape[0], rows, h.shape[2])

    def product(h: Array) -> Array:
        # Apart, so that XLA does not multiply several networks at once: a product of another shape
        # may be another algorithm, and a device's networks depend on the number of devices.
        left, right = lax.optimization_barrier((d_k, h)) if unroll else (d_k, h)
        # Turned over here, where the product takes it in: a turned matrix that a loop is given is
        # another operand, summed in another order.
        return _multiply(kernel, left.T if transposed else left, right)

    return each(product, h, axis, unroll)


def _multiply(kernel: Any, a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=products.precision_of(kernel.arithmetic, a.dtype))


def _written_out(dtype: jnp.dtype, networks: int, *shape: int) -> bool:
    """Whether what networks do one after the other, with a result of this shape each, is written
    out. Never on a CPU, whose compiler rounds otherwise outside a loop."""
    nbytes = networks * math.prod(shape) * jnp.dtype(dtype).itemsize
    return networks <= WRITTEN_OUT and nbytes <= WRITTEN_OUT_BYTES and not _on_cpu()


def _at_once(draw: Any, keys: Array) -> Any:
    """All networks drawn by the same launches, the same numbers; a loop has a dozen for each."""
    return jax.vmap(draw)(keys)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
