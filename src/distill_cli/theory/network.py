"""The two-layer network f(x) = sum_j a_j relu(<w_j, x> + b_j) and its first-layer gradient.

At the start b = 0 and neurons come in pairs (w, a), (w, -a), so f_0 = 0. The gradient of
(1/2n) sum (f(x_i) - y_i)^2 with respect to w_j is then -a_j g(w_j),

    g(w) = (1/n) sum_i y_i 1[<w, x_i> > 0] x_i,

which is the derivative of the correlation (1/n) sum_i y_i relu(<w, x_i>); so jax.grad gives it, for
real and for distilled points alike.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def output(
    w: Float[Array, "L d"], a: Float[Array, "L"], b: Float[Array, "L"], x: Float[Array, "n d"]
) -> Float[Array, "n"]:
    """f(x)."""
    return features(w, b, x) @ a


def features(
    w: Float[Array, "L d"], b: Float[Array, "L"], x: Float[Array, "n d"]
) -> Float[Array, "n L"]:
    """relu(<w_j, x> + b_j)."""
    return jax.nn.relu(x @ w.T + b[None])


def squared_loss(
    w: Float[Array, "L d"], a: Float[Array, "L"], x: Float[Array, "n d"], y: Float[Array, "n"]
) -> Float[Array, ""]:
    """(1/2n) sum (f(x_i) - y_i)^2 at b = 0."""
    return 0.5 * jnp.mean((output(w, a, jnp.zeros(len(a), x.dtype), x) - y) ** 2)


def first_layer_gradient(
    w: Float[Array, "P d"], x: Float[Array, "n d"], y: Float[Array, "n"]
) -> Float[Array, "P d"]:
    """g(w_j) of each row, by automatic differentiation; y may carry weights."""

    def correlation(rows: Float[Array, "P d"]) -> Float[Array, ""]:
        return jnp.sum(y[:, None] * jax.nn.relu(x @ rows.T)) / len(y)

    return jax.grad(correlation)(w)


def population_gradient(w: Float[Array, "P d"], h: Float[Array, "d d"]) -> Float[Array, "P d"]:
    """(2 pi)^(-1/2) (H w - (1/2) (w'Hw) w) at |w| = 1: the part of degree 2 of f* (and of 3,
    which adds nothing: the step function has no even coefficient above order 0)."""
    hw = w @ h
    return (hw - 0.5 * jnp.sum(w * hw, -1, keepdims=True) * w) / math.sqrt(2 * math.pi)


def unit_rows(key: PRNGKeyArray, count: int, d: int) -> Float[Array, "count d"]:
    """Rows uniform on the unit sphere."""
    rows = jax.random.normal(key, (count, d), jnp.float32)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


def initial(
    key: PRNGKeyArray, width: int, d: int
) -> tuple[Float[Array, "half d"], Float[Array, "half"]]:
    """(W0, a) of the first half: unit rows and signs; the second half is (W0, -a)."""
    kw, ka = jax.random.split(key)
    signs = jax.random.rademacher(ka, (width // 2,), jnp.float32)
    return unit_rows(kw, width // 2, d), signs


def trained_rows(
    signs: Float[Array, "half"], gradient: Float[Array, "half d"], norm: float
) -> Float[Array, "L d"]:
    """w_j <- eta a_j g(w_j) for both halves: one step with weight decay 1/eta, which forgets the
    start; eta gives the rows the root-mean-square norm `norm`."""
    half = signs[:, None] * gradient
    rows = jnp.concatenate([half, -half])
    size = jnp.sqrt(jnp.mean(jnp.sum(rows.astype(jnp.float64) ** 2, -1)))
    return rows * (norm / jnp.maximum(size, 1e-30)).astype(jnp.float32)


def biases(key: PRNGKeyArray, width: int, kind: str) -> Float[Array, "L"]:
    """Biases redrawn after the first step: normal N(0,1), uniform on [-2, 2], or zero."""
    if kind == "zero":
        return jnp.zeros(width, jnp.float32)
    if kind == "uniform":
        return jax.random.uniform(key, (width,), jnp.float32, -2.0, 2.0)
    return jax.random.normal(key, (width,), jnp.float32)
