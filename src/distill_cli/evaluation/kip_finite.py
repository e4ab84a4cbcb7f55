"""evaluation=kip_finite: KIP's transfer to finite networks (Nguyen, Novak, Xiao & Lee, NeurIPS
2021, arXiv 2107.13034; the authors' training notebook).

A ConvNet without normalisation in standard parametrisation, W_std sqrt(2), b_std 0.1:

    loss = 1/2 mean_{i,c} (f - y)^2 + 1/2 l2 sum theta^2,   momentum 0.9, cosine decay to 0

on the coreset's own labels, batches of 100 from an endless shuffled stream, 5000 steps, learning
rate = factor x the largest stable one, from the empirical NTK at the initial weights. The authors
search factor and l2 on validation images over a grid that is not known; here both stay fixed (the
notebook's values), so that nothing is selected.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distill_cli.config import at_least
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.batching import Batching
from distill_cli.evaluation.empirical_ntk import largest_stable_rate
from distill_cli.evaluation.optimiser import Optimiser
from distill_cli.evaluation.protocol import Networks, draw, refuse_norm, run_protocol
from distill_cli.evaluation.trainer import Recipe, Variables

MOMENTUM = 0.9
WEIGHT_STD, BIAS_STD = 2.0**0.5, 0.1
DESCRIPTION = (
    "fresh networks without norm in standard parametrisation, {loss} on the learned labels, "
    "l2 {l2:g}, momentum 0.9, {factor:g} x the largest stable learning rate with cosine decay, "
    "batch {batch}, {steps} steps, tested once at the end (KIP protocol)"
)


@dataclass(frozen=True)
class Config(Networks):
    """loss: mse on the stored labels, or cross_entropy on their argmax; factor: of the largest
    stable learning rate; kernel_images: validation images of the empirical NTK."""

    networks: int = 1
    architectures: tuple[str, ...] = ("kipconv",)
    width: int | None = 1024
    norm: str | None = "none"
    steps: int = 5000
    batch: int = 100
    l2: float = 1e-3
    factor: float = 1.0
    loss: Literal["mse", "cross_entropy"] = "mse"
    kernel_images: int = 50

    def __post_init__(self) -> None:
        self.check("kip_finite")
        refuse_norm(self, "kip_finite")
        for key in ("steps", "batch", "kernel_images"):
            at_least(f"evaluation.kip_finite.{key}", getattr(self, key), 1)
        for key in ("l2", "factor"):
            at_least(f"evaluation.kip_finite.{key}", getattr(self, key), 0)


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol kip_finite, on all test images."""
    valid = problem.valid[0]
    if not len(valid):
        raise UserError("evaluation.kip_finite: needs at least one validation image")
    rows = np.unique(np.linspace(0, len(valid) - 1, config.kernel_images).round().astype(int))
    images = np.asarray(valid[rows], np.float32)

    def rate(net: nn.Module, variables: Variables) -> float:
        return config.factor * largest_stable_rate(net, variables, images, MOMENTUM)

    recipe = Recipe(
        "mean_squared" if config.loss == "mse" else "cross_entropy",
        config.steps,
        Batching("stream", config.batch),
        Optimiser("momentum", "cosine", momentum=MOMENTUM, weight_decay=config.l2),
    )
    description = DESCRIPTION.format(
        loss="1/2 mean squared error" if config.loss == "mse" else "cross-entropy",
        l2=config.l2, factor=config.factor, batch=config.batch, steps=config.steps,
    )  # fmt: skip
    return run_protocol(
        "kip_finite", description, config, coreset, problem, recipe,
        initial=standard_weights, rate=rate,
    )  # fmt: skip


def standard_weights(net: nn.Module, key: Array, shape: tuple[int, ...]) -> Variables:
    """Fresh weights: kernels from N(0, 2 / fan_in), biases from N(0, 0.1^2), whatever the
    network's own initialisation is."""
    return _redraw(draw(net, key, shape), key)


@partial(jax.jit, donate_argnums=0)
def _redraw(variables: Variables, key: Array) -> Variables:
    leaves, tree = jax.tree_util.tree_flatten_with_path(variables)
    drawn: list[Any] = []
    for index, (path, leaf) in enumerate(leaves):
        normal = jax.random.normal(jax.random.fold_in(key, index), leaf.shape, jnp.float32)
        kernel = path[-1].key == "kernel"
        fan_in = np.prod(leaf.shape[:-1]) if kernel else 1
        deviation = WEIGHT_STD / fan_in**0.5 if kernel else BIAS_STD
        drawn.append(np.float32(deviation) * normal)
    return jax.tree_util.tree_unflatten(tree, drawn)
