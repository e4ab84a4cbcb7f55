"""method=full: the whole training split, no distillation; what a coreset can be worth at most.

Protocols that train networks take any number of images. Exact kernel regression takes as many as
its matrix allows (evaluation/base.py, MOST_SUPPORT).
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from distill_cli.core.types import Coreset
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.random import Random

ALLOWS = {"ipc": (0,), "init": ("full",), "labels": ("fixed",)}


@dataclass(frozen=True)
class Config:
    """ridge: relative to trace(K_ss)/n, of the evaluation."""

    name: str = "full"
    ridge: float = 5e-3


@dataclass(frozen=True)
class Full(Random):
    """The Distiller that keeps everything and has nothing to choose from."""

    def validator(self, key: PRNGKeyArray, images: Array, labels: Array) -> Validator:
        """No score: there is one set only, and regression on all of it would take its matrix."""
        del key, images, labels

        def unscored(coreset: Coreset) -> Info:
            del coreset
            return {"valid_loss": jnp.asarray(jnp.nan), "valid_accuracy": jnp.asarray(jnp.nan)}

        return unscored


def make(setting: Setting) -> Full:
    """The ceiling bound to a setting."""
    return Full(setting)
