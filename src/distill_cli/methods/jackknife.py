"""The loss of kernel regression without the error that few random networks bring.

A kernel of N random networks is a noisy one, and the mean loss under noisy kernels is not the loss
under their mean: L(K + noise) = L(K) + 1/2 L''(K) var(noise), an error that falls like 1/N and
moves the coreset that is best. With K_m the kernels of the single networks, the jackknife estimate
(Quenouille, Biometrika 1956)

    J = N L(mean_m K_m) - (N - 1)/N sum_m L(mean_{l != m} K_l)

is off by 1/N^2 only, from the same networks: N + 1 small regressions in place of one. The gram that
goes with it is Ensemble.grams.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.core.linalg import Reg, krr_solve
from distill_cli.core.losses import Loss
from distill_cli.methods.krr import Regression


def means_of(
    kernels: Float[Array, "network n m"],
) -> tuple[Float[Array, "mean n m"], Float[Array, " mean"]]:
    """(the mean of all kernels, then of all but each one, float64; their weights in J)."""
    count = kernels.shape[0]
    others = (1 - jnp.eye(count, dtype=jnp.float64)) / (count - 1)
    means = jnp.concatenate([jnp.full((1, count), 1 / count, jnp.float64), others])
    weights = jnp.full(count + 1, (1 - count) / count, jnp.float64).at[0].set(count)
    mixed = jnp.tensordot(means, kernels.astype(jnp.float64), 1, precision="highest")
    return mixed, weights


def solve(
    kernels: Float[Array, "network n n"], y_s: Float[Array, "n class"], reg: Reg
) -> Float[Array, "mean n class"]:
    """alpha of each regression of J."""
    return jax.lax.map(lambda k_ss: krr_solve(k_ss, y_s, reg), means_of(kernels)[0])


def losses(
    kernels: Float[Array, "network m n"], alpha: Array, labels: Array, k: Array, loss: Loss
) -> tuple[Float[Array, " m"], Any]:
    """(J of each image, outputs under the kernel of all networks); k: the log temperature."""
    means, weights = means_of(kernels)
    outputs = jnp.matmul(means, alpha, precision="highest")
    return weights @ jax.vmap(loss, (0, None, None))(outputs, labels, k), outputs[0]


JACKKNIFE = Regression(solve, losses)
