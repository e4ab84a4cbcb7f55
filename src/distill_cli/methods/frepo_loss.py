"""FRePo's loss: half the squared error, features' inner products, the margin of learned labels.

Zhou, Nezhadarya, Ba, NeurIPS 2022 (arXiv 2206.00719); frepo.py has the whole.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.core.losses import mse
from distill_cli.core.types import Coreset


def half_squares(outputs: Array, labels: Array, log_temperature: Array) -> Float[Array, " n"]:
    """1/2 ||f - y||^2, per example: the sum over classes, not their mean."""
    return outputs.shape[-1] * mse(outputs, labels, log_temperature)


def inner_product(phi1: Array, phi2: Array) -> Float[Array, "n m"]:
    """<Phi, Phi'>, at full float32 precision also where matrix products default to less."""
    return jnp.matmul(phi1, phi2.T, precision="highest")


def margin_term(labels: Float[Array, "n class"]) -> Float[Array, ""]:
    """- mean_j min(top1 - top2, 1/C): -1/C where every label has its margin."""
    top = jax.lax.top_k(labels, 2)[0]
    return -jnp.mean(jnp.minimum(top[:, 0] - top[:, 1], 1 / labels.shape[-1]))


def with_margin(
    labels: Array, info: dict[str, Array], gradient: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The regression's scalars and gradient with the margin term of these labels added."""
    value, slope = jax.value_and_grad(margin_term)(labels)
    info = info | {"loss": info["loss"] + value, "margin": -value}
    return info, gradient | {"labels": gradient["labels"] + slope}


def with_mirror(coreset: Coreset) -> Coreset:
    """The images and their mirror images, with the labels twice."""
    images = jnp.concatenate([coreset.images, coreset.images[:, :, ::-1]])
    labels = jnp.concatenate([coreset.labels, coreset.labels])
    return Coreset(images, labels, coreset.log_temperature)
