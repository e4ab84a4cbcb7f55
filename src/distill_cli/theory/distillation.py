"""First-layer distillation: choose D1 so that its first-layer gradient equals the real one.

G_w(D1) = (1/M1) sum_m y_m 1[<w, x_m> > 0] x_m against g(w), over a pool of random rows w. Both
variants differentiate that match automatically; their closed forms are the tests' oracles.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from distill_cli.theory.config import CellConfig
from distill_cli.theory.network import first_layer_gradient

START_NORM = 0.3  # RMS row norm of multi_step's start


class D1(NamedTuple):
    """First-layer data: inputs (M1, d) and labels (M1,)."""

    inputs: Float[Array, "m d"]
    labels: Float[Array, "m"]


def start_points(key: PRNGKeyArray, config: CellConfig) -> Float[Array, "m d"]:
    """Gaussian start points, (x, -x) in antithetic pairs or independent."""
    if config.pairs == "independent":
        return jax.random.normal(key, (config.m1, config.d), jnp.float32)
    half = jax.random.normal(key, (config.m1 // 2, config.d), jnp.float32)
    return jnp.concatenate([half, -half])


def alignment(
    inputs: Float[Array, "m d"], rows: Float[Array, "P d"], target: Float[Array, "P d"]
) -> Float[Array, ""]:
    """sum over m of mean over w of <1[<w, x_m> > 0] x_m, g(w)>: the inner product of both
    gradients at labels +1, times M1."""
    matched = first_layer_gradient(rows, inputs, jnp.ones(len(inputs), inputs.dtype))
    return len(inputs) * jnp.sum(matched * target) / len(rows)


def one_step(
    inputs: Float[Array, "m d"], rows: Float[Array, "P d"], target: Float[Array, "P d"]
) -> Float[Array, "m d"]:
    """x_m <- mean over w of 1[<w, x_m> > 0] g(w): one gradient step that forgets the start.

    In the limit this applies H to the start point: one power iteration. Of a pair x, -x every w is
    on the side of one, so their results add up to mean g(w), whatever x is: a pool of finite size
    leaves that centre above zero, and pairs are reflections at half of it, no exact negatives.
    """
    return jax.grad(alignment)(inputs, rows, target)


def sign_labels(
    inputs: Float[Array, "m d"], rows: Float[Array, "P d"], target: Float[Array, "P d"]
) -> Float[Array, "m"]:
    """sign(sum_w 1[<w, x_m> > 0] <g(w), x_m>), +1 at zero."""
    pull = jnp.sum(jax.grad(alignment)(inputs, rows, target) * inputs, -1)
    return jnp.where(pull < 0, -1.0, 1.0).astype(inputs.dtype)


def matching_loss(
    data: D1, rows: Float[Array, "B d"], target: Float[Array, "B d"]
) -> Float[Array, ""]:
    """(1/B) sum over w of |G_w(D1) - g(w)|^2."""
    matched = first_layer_gradient(rows, data.inputs, data.labels)
    return jnp.sum((matched - target) ** 2) / len(rows)


def multi_step(
    data: D1, rows: Float[Array, "P d"], target: Float[Array, "P d"], key: PRNGKeyArray,
    steps: int, learning_rate: float, batch: int,
) -> D1:  # fmt: skip
    """Minimise the matching loss over inputs and labels with Adam, cosine rate to 0, on `batch`
    rows of the pool, a random window of it at each step."""
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(
        state: tuple[D1, optax.OptState], i: Int[Array, ""]
    ) -> tuple[tuple[D1, optax.OptState], None]:
        now, moments = state
        # The pool's rows are independent, so a window of them is as random as a drawn subset,
        # and costs no sorting.
        first = jax.random.randint(jax.random.fold_in(key, i), (), 0, len(rows))
        chosen = (first + jnp.arange(batch)) % len(rows)
        gradient = jax.grad(matching_loss)(now, rows[chosen], target[chosen])
        updates, moments = optimiser.update(gradient, moments)
        return (D1(*optax.apply_updates(now, updates)), moments), None  # pyright: ignore

    (data, _), _ = jax.lax.scan(step, (data, optimiser.init(data)), jnp.arange(steps))
    return data


def distil(
    config: CellConfig, rows: Float[Array, "P d"], target: Float[Array, "P d"], key: PRNGKeyArray
) -> D1:
    """D1 of one seed as the cell asks for it; pure, so it is vmapped over seeds."""
    k_start, k_steps = jax.random.split(key)
    start = start_points(k_start, config)
    ones = jnp.ones(config.m1, jnp.float32)
    if config.control == "undistilled":
        return D1(start, ones)
    first = one_step(start, rows, target)
    if config.variant == "one_step":
        return D1(first, ones)
    begin = start if config.start == "random" else first
    begin = begin * (START_NORM / jnp.sqrt(jnp.mean(jnp.sum(begin**2, -1))))
    labels = ones if config.label_start == "ones" else sign_labels(begin, rows, target)
    return multi_step(
        D1(begin, labels), rows, target, k_steps, config.steps, config.learning_rate, config.batch
    )
