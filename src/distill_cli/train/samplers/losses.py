"""The loss of every training image under what has been distilled so far.

A method may say it itself: `losses(state, images, labels, key) -> (n,)`. For all others it is the
loss of kernel ridge regression from the coreset, with fresh random networks:

    f(x) = K(x, S) (K_ss + reg trace(K_ss)/m I)^-1 y_S,    l_i = loss(f(x_i), y_i)
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from distill_cli.config import Config
from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.losses import LOSSES
from distill_cli.kernels.micro_batches import micro_of_device
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.methods.base import Distiller
from distill_cli.train.batches import TrainingSet

DEFAULT_RIDGE = 5e-3  # where the method has none
Losses = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class LossModel:
    """How images are scored: (run, method, random networks of the regression)."""

    run: Config
    distiller: Distiller[Any]
    networks: int

    def fitted(self, distilled: Any, key: PRNGKeyArray, shape: tuple[int, int, int]) -> Losses:
        """(images, labels) -> losses under the method's state `distilled`. Pure, jittable."""
        own = getattr(self.distiller, "losses", None)
        if own is not None:
            return lambda images, labels: own(distilled, images, labels, key)
        kernel, micro = self.kernel(shape), self.micro(shape)
        coreset = self.distiller.coreset(distilled)
        networks = kernel.sample(key)
        phi_s = kernel.features(networks, coreset.images, micro)
        reg = getattr(self.run.method, "ridge", DEFAULT_RIDGE)
        alpha = krr_solve(kernel.gram(phi_s, phi_s), coreset.labels, reg)
        loss = LOSSES.get(self.run.loss, LOSSES["mse"])

        def losses(images: Array, labels: Array) -> Array:
            phi = kernel.features(networks, images, micro)
            outputs = krr_predict(kernel.gram(phi, phi_s), alpha)
            return loss(outputs, labels, coreset.log_temperature)

        return losses

    def of_all(self, distilled: Any, key: PRNGKeyArray, train: TrainingSet) -> Array:
        """Losses of all n training images, (n,) float64, one micro-batch at a time. Jittable."""
        n, shape = train.labels.shape[0], train.image_shape
        losses = self.fitted(distilled, key, shape)
        micro = min(self.micro(shape), n)
        pieces = -(-n // micro)
        rows = (jnp.arange(pieces * micro) % n).reshape(pieces, micro)
        found = jax.lax.map(lambda part: losses(train.take(part), train.labels[part]), rows)
        return found.reshape(-1)[:n].astype(jnp.float64)

    def kernel(self, shape: tuple[int, int, int]) -> RandomFeatureKernel:
        """The random-feature kernel of the run's architecture."""
        return RandomFeatureKernel(run_architecture(self.run), shape, self.networks)

    def micro(self, shape: tuple[int, int, int]) -> int:
        """Images whose activations are in memory at once."""
        return micro_of(self.run, shape)


def run_architecture(run: Config) -> Any:
    """The architecture that the configuration names."""
    module = importlib.import_module(f"distill_cli.arch.{run.architecture.name}")
    return module.build(run.architecture)


def micro_of(run: Config, shape: tuple[int, int, int]) -> int:
    """batch.micro, or what fits the device."""
    if run.batch.micro is not None:
        return run.batch.micro
    return micro_of_device(run_architecture(run), shape)
