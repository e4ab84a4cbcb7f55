"""The loss of kernel regression without the error that few random networks bring.

A kernel of N random networks is a noisy one, and the mean loss under noisy kernels is not the loss
under their mean: L(K + noise) = L(K) + 1/2 L''(K) var(noise), an error that falls like 1/N and
moves the coreset that is best. With K_m the kernels of the single networks, the jackknife estimate
(Quenouille, Biometrika 1956)

    J = N L(mean_m K_m) - (N - 1)/N sum_m L(mean_{l != m} K_l)

is off by 1/N^2 only, from the same networks: N + 1 small regressions in place of one. Where the
error is as large as the loss (few networks, a long run, an easy task) the terms that J leaves out
are what the optimiser finds, and J falls below zero while the exact loss rises. Then a share of the
error is taken off:

    J_share = L + share (J - L)

The gram that goes with it is Ensemble.grams.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.core.linalg import Reg, krr_solve
from distill_cli.core.losses import Loss
from distill_cli.methods.krr import Regression


def means_of(kernels: Float[Array, "network n m"]) -> Float[Array, "mean n m"]:
    """The mean of all kernels, then of all but each one, in float64."""
    count = kernels.shape[0]
    others = (1 - jnp.eye(count, dtype=jnp.float64)) / (count - 1)
    means = jnp.concatenate([jnp.full((1, count), 1 / count, jnp.float64), others])
    return jnp.tensordot(means, kernels.astype(jnp.float64), 1, precision="highest")


def weights_of(count: int, share: float) -> Float[Array, " mean"]:
    """What the losses under these means count in J_share, of `count` networks."""
    weights = jnp.full(count + 1, share * (1 - count) / count, jnp.float64)
    return weights.at[0].set(1 + share * (count - 1))


def solve(
    kernels: Float[Array, "network n n"], y_s: Float[Array, "n class"], reg: Reg
) -> Float[Array, "mean n class"]:
    """alpha of each regression of J."""
    return jax.lax.map(lambda k_ss: krr_solve(k_ss, y_s, reg), means_of(kernels))


def losses(
    share: float,
    kernels: Float[Array, "network m n"],
    alpha: Array,
    labels: Array,
    k: Array,
    loss: Loss,
) -> tuple[Float[Array, " m"], Any]:
    """(J_share of each image, outputs under the kernel of all networks); k: the log temperature."""
    outputs = jnp.matmul(means_of(kernels), alpha, precision="highest")
    weights = weights_of(kernels.shape[0], share)
    return weights @ jax.vmap(loss, (0, None, None))(outputs, labels, k), outputs[0]


def jackknife(share: float) -> Regression:
    """The regression whose loss is J_share."""
    return Regression(solve, partial(losses, share))
