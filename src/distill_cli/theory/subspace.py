"""Is a coreset of images concentrated on few directions, and on those that a network uses?

A two-layer ReLU network is trained on real images; the leading directions of its gradient outer
product E_x[sum_c grad f_c(x) grad f_c(x)'] are those its outputs depend on most (for a multi-index
target they span S*). A set of images is compared with them in pixel space, and in the network's
hidden features, where the outer product is W_2' W_2.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from distill_cli.config import at_least
from distill_cli.core.keys import named_key
from distill_cli.errors import UserError
from distill_cli.theory.metrics import energy, overlap

START = 0.01  # of He's scale: weights of pixels that nothing is learned from stay near zero
CHUNK = 256  # images whose gradients are in memory at once


@dataclass(frozen=True)
class SubspaceConfig:
    """k: directions (None: number of classes); width, steps, batch, learning_rate: the network and
    its training by Adam on at most `images` images; points: images behind the gradient outer
    product; draws: of each random control; seeds: networks."""

    k: int | None = None
    width: int = 256
    steps: int = 2000
    batch: int = 128
    learning_rate: float = 1e-3
    images: int = 20_000
    points: int = 2000
    draws: int = 5
    seeds: int = 3

    def __post_init__(self) -> None:
        for key in ("width", "steps", "batch", "images", "points", "draws", "seeds"):
            at_least(f"subspace.{key}", getattr(self, key), 1)
        if self.k is not None:
            at_least("subspace.k", self.k, 1)
        if not self.learning_rate > 0:
            raise UserError(f"subspace.learning_rate={self.learning_rate}: must be above 0")


class Network(NamedTuple):
    """f(x) = w2 relu(w1 x + b1) + b2."""

    w1: Float[Array, "width pixel"]
    b1: Float[Array, "width"]
    w2: Float[Array, "class width"]
    b2: Float[Array, "class"]


def features(net: Network, x: Float[Array, "n pixel"]) -> Float[Array, "n width"]:
    """Hidden features."""
    return jax.nn.relu(x @ net.w1.T + net.b1[None])


def outputs(net: Network, x: Float[Array, "n pixel"]) -> Float[Array, "n class"]:
    """Logits."""
    return features(net, x) @ net.w2.T + net.b2[None]


@partial(jax.jit, static_argnames=("config", "classes"))
def train(
    config: SubspaceConfig, classes: int, seed: Int[Array, ""] | int,
    x: Float[Array, "n pixel"], y: Int[Array, "n"],
) -> Network:  # fmt: skip
    """Adam on the cross-entropy, batches drawn with replacement."""
    root = jax.random.fold_in(named_key(0, "theory subspace network"), seed)
    k1, k2, kb = jax.random.split(root, 3)
    pixels = x.shape[1]
    first = jax.random.normal(k1, (config.width, pixels), jnp.float32)
    second = jax.random.normal(k2, (classes, config.width), jnp.float32)
    net = Network(
        first * np.float32(START * (2 / pixels) ** 0.5),
        jnp.zeros(config.width, jnp.float32),
        second * np.float32(config.width**-0.5),
        jnp.zeros(classes, jnp.float32),
    )
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))

    def loss(net: Network, rows: Int[Array, "batch"]) -> Float[Array, ""]:
        logits = outputs(net, x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(state, i):
        net, moments = state
        rows = jax.random.randint(jax.random.fold_in(kb, i), (config.batch,), 0, len(x))
        updates, moments = optimiser.update(jax.grad(loss)(net, rows), moments)
        return (Network(*optax.apply_updates(net, updates)), moments), None  # pyright: ignore

    (net, _), _ = jax.lax.scan(step, (net, optimiser.init(net)), jnp.arange(config.steps))
    return net


@jax.jit
def _outer(net: Network, x: Float[Array, "n pixel"]) -> Float[Array, "pixel pixel"]:
    jacobians = jax.vmap(jax.jacrev(lambda one: outputs(net, one[None])[0]))(x)
    flat = jacobians.reshape(-1, x.shape[1])
    return flat.T @ flat


def gradient_outer_product(net: Network, x: np.ndarray) -> np.ndarray:
    """E_x[sum_c grad f_c grad f_c'] (pixel, pixel) float64, by automatic differentiation."""
    total = np.zeros((x.shape[1],) * 2)
    for at in range(0, len(x), CHUNK):
        total += np.asarray(_outer(net, jnp.asarray(x[at : at + CHUNK])), np.float64)
    return total / len(x)


def leading(matrix: np.ndarray, k: int) -> np.ndarray:
    """Eigenvectors of the k largest eigenvalues as columns."""
    return np.linalg.eigh(matrix)[1][:, ::-1][:, :k]


def concentration(x: np.ndarray, v: np.ndarray) -> dict[str, float]:
    """How a set of centred points (m, p) sits on its own directions and on those of v (p, k).

    overlap: |V_X' V|^2 / k, V_X its top-k right singular vectors (k/p at random); energy: share of
    its squared norm inside v (k/p at random); top_k: share in its own top k; dimension:
    (sum s^2)^2 / sum s^4, the effective number of its directions.
    """
    s2 = np.linalg.svd(np.asarray(x, np.float64), compute_uv=False) ** 2
    return {
        "overlap": overlap(x, v),
        "energy": energy(x, v),
        "top_k": float(s2[: v.shape[1]].sum() / s2.sum()),
        "dimension": float(s2.sum() ** 2 / (s2**2).sum()),
    }


def like_real(rng: np.random.Generator, real: np.ndarray, count: int) -> np.ndarray:
    """Gaussian points (count, p) with the covariance of centred real points (n, p)."""
    weights = rng.standard_normal((count, len(real))) / np.sqrt(len(real))
    return (weights @ real).astype(np.float32)
