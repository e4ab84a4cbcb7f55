"""method=random: the initial coreset as it is, no distillation.

The baseline that every distilled set has to beat. With init=random it is real images drawn at
random; with init=mmd or var it is a coreset selection method.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from distill_cli.core.losses import LOSSES
from distill_cli.core.types import Batch, Coreset
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.krr import feature_validator


@dataclass(frozen=True)
class Config:
    """ridge: relative to trace(K_ss)/n, of the validation score and the evaluation."""

    name: str = "random"
    ridge: float = 5e-3


@dataclass(frozen=True)
class Random:
    """The Distiller whose state is the coreset and whose step changes nothing."""

    setting: Setting

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> Coreset:
        del key
        return coreset

    def step(self, state: Coreset, batch: Batch, key: PRNGKeyArray) -> tuple[Coreset, Info]:
        del batch, key
        zero = jnp.zeros((), jnp.float32)
        return state, {"loss": zero, "accuracy": zero}

    def steps(self, wanted: int, images: int, batch: int) -> int:
        """None: there is nothing to train, and no loss to show."""
        del wanted, images, batch
        return 0

    def coreset(self, state: Coreset) -> Coreset:
        return state

    def validator(self, key: PRNGKeyArray, images: Array, labels: Array) -> Validator:
        setting, config = self.setting, self.setting.config
        networks = config.validation.networks
        kernel = RandomFeatureKernel(setting.architecture, setting.image_shape, networks)
        return feature_validator(
            kernel, key, images, labels,
            loss=LOSSES[config.loss], reg=setting.reg, micro=setting.micro,
        )  # fmt: skip

    def flops(self, batch: int, coreset: int) -> float:
        del batch, coreset
        return 0.0


def make(setting: Setting) -> Random:
    """The baseline bound to a setting."""
    return Random(setting)
