"""What a sampler is: it decides which training images make the batch of a step.

A sampler is one module in this package with a dataclass `Config` (its parameters, `balanced` among
them) and a function `make(config, run, distiller) -> Sampler`, and one file in configs/sampler.

Batches carry weights v_i = 1 / (n p_i) for images drawn with probability p_i, so that
(1/b) sum v_i l_i estimates the mean loss without bias; in class-balanced batches n and p_i are
those of the image's class, and the mean over classes of their mean losses is estimated.
"""

import importlib
from typing import Any, Protocol, TypeVar

from jaxtyping import PRNGKeyArray

from distill_cli.config import Config
from distill_cli.core.types import Batch
from distill_cli.methods.base import Distiller
from distill_cli.train.batches import TrainingSet

State = TypeVar("State")


class Sampler(Protocol[State]):
    """A sampler with its parameters bound; pure functions on an explicit state."""

    refresh: int
    """Steps between two calls of `update`, the first at step 0; 0: never called."""

    def init(self, train: TrainingSet) -> State:
        """The state before the first step: a pytree of arrays, checkpointed with the method's."""
        ...

    def update(
        self, state: State, train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> tuple[State, dict[str, float]]:
        """A new state from the method's state `distilled`, and numbers for the log.

        Called between jitted chunks; a function of its arguments alone, so that runs resume.
        """
        ...

    def draw(self, state: State, train: TrainingSet, distilled: Any, key: PRNGKeyArray) -> Batch:
        """The batch of one step, inside jit: batch.number draws of batch.size images."""
        ...


class Stateless:
    """What the samplers share that keep nothing from step to step."""

    refresh = 0

    def init(self, train: TrainingSet) -> tuple[()]:
        del train
        return ()

    def update(
        self, state: tuple[()], train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> tuple[tuple[()], dict[str, float]]:
        del train, distilled, key
        return state, {}


def make_sampler(config: Config, distiller: Distiller[Any]) -> Sampler[Any]:
    """The sampler named in the configuration."""
    module = importlib.import_module(f"distill_cli.train.samplers.{config.sampler.name}")
    return module.make(config.sampler, config, distiller)
