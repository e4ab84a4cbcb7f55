"""Losses on regression outputs, and the scores reported beside the accuracy.

All take outputs f (n, class) and integer labels (n,); targets are one-hot minus 1/classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from distill_cli.core.types import one_hot_centred

Outputs = Float[Array, "n class"]
Labels = Int[Array, " n"]
Loss = Callable[[Any, Any, Any], Float[Array, " n"]]


def platt(
    outputs: Outputs, labels: Labels, log_temperature: Float[Array, ""]
) -> Float[Array, " n"]:
    """Cross-entropy of softmax(exp(k) f) against the labels, per example (RFAD section 3.2).

    k is the log temperature: tau = exp(-k) divides the outputs.
    """
    logits = jax.nn.log_softmax(jnp.exp(log_temperature) * outputs, axis=-1)
    return -at_label(logits, labels)


def at_label(values: Float[Array, "n class"], labels: Labels) -> Float[Array, " n"]:
    """Each row's value at its label. Not by index, whose derivative is a scatter: a GPU need not
    repeat one bit for bit."""
    own = jnp.arange(values.shape[-1])[None] == labels[:, None]
    return jnp.sum(jnp.where(own, values, 0), axis=-1)


def mse(outputs: Outputs, labels: Labels, log_temperature: Float[Array, ""]) -> Float[Array, " n"]:
    """0.5 * mean over classes of (f - y)^2, per example; no temperature (RFAD code)."""
    del log_temperature
    targets = one_hot_centred(labels, outputs.shape[-1]).astype(outputs.dtype)
    return 0.5 * jnp.mean((outputs - targets) ** 2, axis=-1)


LOSSES: dict[str, Loss] = {"platt": platt, "mse": mse}


def accuracy(outputs: Outputs, labels: Labels) -> Float[Array, ""]:
    """Fraction of rows whose largest output is at the label."""
    return jnp.mean((jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32))


def confidence_bins(
    outputs: Outputs, labels: Labels, log_temperature: Float[Array, ""], bins: int = 15
) -> Float[Array, "bin 3"]:
    """Of each equal-width bin of confidence on [0, 1]: images, sum of confidences, hits.

    Confidence is the largest softmax(exp(k) f). Mean confidence against share of hits, bin by bin,
    is the reliability diagram (Guo et al. 2017, section 2).
    """
    probabilities = jax.nn.softmax(jnp.exp(log_temperature) * outputs, axis=-1)
    confidence = jnp.max(probabilities, axis=-1)
    hit = (jnp.argmax(outputs, axis=-1) == labels).astype(confidence.dtype)
    index = jnp.clip((confidence * bins).astype(jnp.int32), 0, bins - 1)
    columns = jnp.stack([jnp.ones_like(confidence), confidence, hit], axis=-1)
    return jax.ops.segment_sum(columns, index, num_segments=bins)


def expected_calibration_error(
    outputs: Outputs, labels: Labels, log_temperature: Float[Array, ""], bins: int = 15
) -> Float[Array, ""]:
    """ECE: sum over confidence bins of (bin share) * |accuracy - mean confidence|.

    Bins as in confidence_bins (Guo et al. 2017, eq. 5).
    """
    _, confidence, hits = confidence_bins(outputs, labels, log_temperature, bins).T
    return jnp.sum(jnp.abs(hits - confidence)) / outputs.shape[0]
