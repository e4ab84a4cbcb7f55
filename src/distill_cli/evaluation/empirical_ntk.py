"""The largest learning rate at which a network trains stably, from its empirical NTK.

With g(x) = sum_c f_c(x) / sqrt(C) and J its Jacobian with respect to the weights, Theta = J J^T
(n, n) on n images stands for the kernel of one output. Near the initial weights gradient descent on
1/(2 n C) sum (f - y)^2 with momentum m is stable up to

    rate = 2 (1 + m) n C / lambda_max(Theta).

(The rule of neural-tangents' predict.max_learning_rate, which KIP's notebook uses.)
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distill_cli.evaluation.sizes import micro_batch

TOLERANCE = 1e-4  # relative change of the eigenvalue between two iterations
MOST = 100  # iterations


def largest_stable_rate(
    net: nn.Module,
    variables: dict[str, Any],
    images: Float[np.ndarray, "n height width channel"],
    momentum: float,
) -> float:
    """The rate above, on these images."""
    logits = jax.eval_shape(partial(net.apply, variables), images[:1])
    eigenvalue = largest_eigenvalue(net, variables, images)
    return 2 * (1 + momentum) * len(images) * logits.shape[-1] / eigenvalue  # type: ignore[attr-defined]


def largest_eigenvalue(
    net: nn.Module,
    variables: dict[str, Any],
    images: Float[np.ndarray, "n height width channel"],
) -> float:
    """lambda_max(Theta) by power iteration; Theta is never formed.

    Theta v = J (J^T v): one reverse pass for J^T v, and the transpose of that for J u. Images go
    through in micro-batches. Converges as (lambda_2 / lambda_1)^2k, fast here: the second
    eigenvalue is several times smaller.
    """
    size = min(len(images), micro_batch(net, images.shape[1:], training=True))
    chunks = -(-len(images) // size)
    missing = chunks * size - len(images)
    padded = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    parts = padded.reshape(chunks, size, *images.shape[1:])
    real = (np.arange(chunks * size) < len(images)).astype(np.float32)
    # Nearly constant, as the leading eigenvector is, and not orthogonal to anything by accident.
    v = real * (1 + 0.1 * np.random.default_rng(0).standard_normal(real.shape)).astype(np.float32)
    value = 0.0
    for _ in range(MOST):
        v = v / np.linalg.norm(v)
        pulled = [
            _pull(net, variables, x, w) for x, w in zip(parts, v.reshape(chunks, size), strict=True)
        ]
        u = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *pulled)
        pushed = np.concatenate([np.asarray(_push(net, variables, x, u)) for x in parts]) * real
        before, value = value, float(np.dot(v.astype(np.float64), pushed.astype(np.float64)))
        if abs(value - before) <= TOLERANCE * abs(value):
            break
        v = pushed
    return value


def _summed(net: nn.Module, variables: Any, x: Array) -> Any:
    """params -> g(x), (n,)."""

    def g(params: Any) -> Array:
        f: Any = net.apply({**variables, "params": params}, x)
        return jnp.sum(f, -1) / np.float32(f.shape[-1] ** 0.5)

    return g


@partial(jax.jit, static_argnums=0)
def _pull(net: nn.Module, variables: Any, x: Array, v: Array) -> Any:
    """J^T v, a tree like the weights."""
    _, pull = jax.vjp(_summed(net, variables, x), variables["params"])
    return pull(v)[0]


@partial(jax.jit, static_argnums=0)
def _push(net: nn.Module, variables: Any, x: Array, u: Any) -> Array:
    """J u, (n,): the transpose of v -> J^T v. (convolve has no forward mode on a CPU.)"""
    _, pull = jax.vjp(_summed(net, variables, x), variables["params"])
    _, push = jax.vjp(lambda v: pull(v)[0], jnp.zeros(x.shape[0], jnp.float32))
    return push(u)[0]
