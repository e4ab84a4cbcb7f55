"""The mechanism that RFAD and its relatives share: kernel ridge regression from S to a batch.

    alpha = (K_ss + reg trace(K_ss)/n I)^-1 y_s,   f(x) = K(x, S) alpha,   loss(f(x_t), t)

with K made of features Phi. Gradients reach the coreset through Phi(x_s), y_s and the temperature;
the features of the batch are constants. They are made and used one micro-batch at a time, so that
memory does not grow with the batch: the loss is a sum over batch images, its gradients with respect
to Phi_s and alpha are summed over micro-batches, and the coreset's network is then differentiated
once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from distill_cli.core import devices
from distill_cli.core.linalg import Reg, krr_predict, krr_solve
from distill_cli.core.losses import Loss, accuracy
from distill_cli.core.types import Batch, Coreset
from distill_cli.kernels.ensemble import Ensemble
from distill_cli.kernels.micro_batches import cut, micro_pieces
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.kernels.shares import ALONE, BATCH, NETWORK, Shares, arrange, sum_shared

Featurise = Callable[[Array], Array]
Gram = Callable[..., Array]


class Regression(NamedTuple):
    """How the loss follows from what gram gives: solve(k_ss, y_s, reg) -> alpha, and
    losses(k_ts, alpha, labels, log temperature, loss) -> (loss of each image, outputs)."""

    solve: Callable[..., Array]
    losses: Callable[..., tuple[Array, Array]]


def losses_of(
    k_ts: Array, alpha: Array, labels: Array, k: Array, loss: Loss
) -> tuple[Array, Array]:
    """Losses and outputs of K(x_t, S) alpha."""
    outputs = krr_predict(k_ts, alpha)
    return loss(outputs, labels, k), outputs


PLAIN = Regression(krr_solve, losses_of)


def krr_value_and_grad(
    featurise: Featurise,
    gram: Gram,
    coreset: Coreset,
    batch: Batch,
    *,
    loss: Loss,
    reg: Reg,
    micro: int,
    shares: Shares = ALONE,
    regression: Regression = PLAIN,
) -> tuple[dict[str, Float[Array, ""]], Coreset]:
    """Weighted mean loss over the batch, and its gradient with respect to the coreset.

    featurise: images (n, h, w, c) -> Phi, of any shape; gram: (Phi, Phi') -> K; reg: ridge relative
    to trace(K_ss)/n, of all support images or of each; micro: batch images at a time; shares: where
    this runs inside `shares.spread`, each device takes its part of the micro-batches, and all get
    the same result; regression: PLAIN, or another that takes what gram gives. Returns
    ({loss, accuracy}, gradients in the shape of the coreset).
    """
    pieces = split_micro(batch, micro)
    total = batch.labels.shape[0]

    def solve(phi_s: Array, y_s: Array) -> Array:
        return regression.solve(gram(phi_s, phi_s), y_s, reg)

    phi_s, pull_features = jax.vjp(featurise, coreset.images)
    alpha, pull_solve = jax.vjp(solve, phi_s, coreset.labels)

    def micro_loss(
        parts: tuple[Array, Array, Array], x_t: Array, t: Array, w: Array
    ) -> tuple[Array, Array]:
        phi_s, alpha, log_temperature = parts
        phi_t = jax.lax.stop_gradient(featurise(x_t))
        losses, outputs = regression.losses(gram(phi_t, phi_s), alpha, t, log_temperature, loss)
        hits = jnp.sum((jnp.argmax(outputs, -1) == t) & (w > 0), dtype=jnp.int32)
        return jnp.sum(w * losses) / total, hits

    def of_piece(piece: Batch) -> Any:
        value_and_grad = jax.value_and_grad(micro_loss, has_aux=True)
        return value_and_grad((phi_s, alpha, coreset.log_temperature), *piece)

    (value, hits), (d_phi, d_alpha, d_k) = sum_shared(shares, BATCH, of_piece, pieces)

    d_phi_solve, d_labels = pull_solve(d_alpha)
    (d_images,) = pull_features(d_phi + d_phi_solve)
    counted = jnp.sum(batch.weights > 0, dtype=jnp.int32)
    info = {"loss": value, "accuracy": hits / counted}
    return info, Coreset(d_images, d_labels, d_k)


def kernel_value_and_grad(
    gram: Gram, coreset: Coreset, batch: Batch, *, loss: Loss, reg: Reg
) -> tuple[dict[str, Float[Array, ""]], Coreset]:
    """krr_value_and_grad for an exact kernel gram(x1, x2=None) of images, which bounds its memory
    by itself."""
    return krr_value_and_grad(
        lambda x: x, symmetric(gram), coreset, batch,
        loss=loss, reg=reg, micro=batch.labels.shape[0],
    )  # fmt: skip


def symmetric(gram: Gram) -> Gram:
    """Let gram know, by leaving the second argument out, when both are one and the same array, so
    that the diagonal is each image with itself."""
    return lambda a, b: gram(a) if a is b else gram(a, b)


def split_micro(batch: Batch, micro: int) -> Batch:
    """Reshape a batch to (pieces, at most micro, ...); rows missing in the last piece have weight
    0."""
    pieces, micro = micro_pieces(batch.labels.shape[0], micro)
    return Batch(*(cut(x, pieces, micro) for x in batch))


def feature_validator(
    kernel: RandomFeatureKernel,
    key: Array,
    images: Array,
    labels: Array,
    *,
    loss: Loss,
    reg: Reg,
    micro: int,
    gram: Callable[[Ensemble], Gram] = lambda ensemble: ensemble.gram,
    regression: Regression = PLAIN,
) -> Callable[[Coreset], dict[str, Float[Array, ""]]]:
    """A scorer of coresets on fixed images with fixed networks, whose image features are kept.

    gram, regression: as in krr_value_and_grad, gram of the ensemble. On several devices each keeps
    the features of its share of the networks."""
    shares = arrange(kernel.networks, 1, micro, images.shape[0])
    ensemble, kept = Ensemble(kernel, shares), P(NETWORK)

    def prepare(key: Array, images: Array) -> tuple[Any, Array]:
        networks = ensemble.sample(key)
        return networks, ensemble.features(networks, images, micro)

    def score(networks: Any, h_t: Array, labels: Array, coreset: Coreset) -> dict[str, Array]:
        h_s = ensemble.features(networks, coreset.images, micro)
        return krr_score(
            h_t, labels, h_s, coreset,
            gram=gram(ensemble), loss=loss, reg=reg, regression=regression,
        )  # fmt: skip

    key, images, labels = devices.on_all((key, images, labels))
    networks, h_t = jax.jit(shares.spread(prepare, kept=kept))(key, images)
    scored = jax.jit(shares.spread(score, given=(kept, kept, P(), P())))
    return partial(scored, networks, h_t, labels)


def kernel_score(
    gram: Gram, images: Array, labels: Array, *, loss: Loss, reg: Reg
) -> Callable[[Coreset], dict[str, Float[Array, ""]]]:
    """A scorer of coresets on fixed images with an exact kernel gram(x1, x2=None)."""

    @jax.jit
    def score(images: Array, labels: Array, coreset: Coreset) -> dict[str, Array]:
        return krr_score(
            images, labels, coreset.images, coreset, gram=symmetric(gram), loss=loss, reg=reg
        )

    return partial(score, images, labels)


def krr_score(
    phi_t: Array,
    labels: Array,
    phi_s: Array,
    coreset: Coreset,
    *,
    gram: Gram,
    loss: Loss,
    reg: Reg,
    regression: Regression = PLAIN,
) -> dict[str, Float[Array, ""]]:
    """{valid_loss, valid_accuracy} of a coreset on images whose features are at hand."""
    alpha = regression.solve(gram(phi_s, phi_s), coreset.labels, reg)
    k = coreset.log_temperature
    losses, outputs = regression.losses(gram(phi_t, phi_s), alpha, labels, k, loss)
    value = jnp.mean(losses)
    return {"valid_loss": value, "valid_accuracy": accuracy(outputs, labels)}
