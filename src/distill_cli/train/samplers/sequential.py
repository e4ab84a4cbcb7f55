"""sampler=sequential: the training set in its own order, once, for methods that add up sums.

The last batch is filled up with images of weight 0, and so is every batch after it. The method's
state says with `seen` how many images it has had, so that a resumed run goes on there.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from distill_cli.config import Config as RunConfig
from distill_cli.core.types import Batch
from distill_cli.errors import UserError
from distill_cli.train.batches import TrainingSet
from distill_cli.train.samplers.base import Stateless


@dataclass(frozen=True)
class Config:
    """balanced must be false: the order is that of the training set."""

    name: str = "sequential"
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.balanced:
            raise UserError("sampler.balanced=true: sampler=sequential takes the images in order")


@dataclass(frozen=True)
class Sequential(Stateless):
    """The Sampler without a state."""

    size: int

    def draw(
        self, state: tuple[()], train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> Batch:
        del state, key
        n = train.labels.shape[0]
        rows = distilled.seen + jnp.arange(self.size, dtype=jnp.int32)
        return train.batch(jnp.minimum(rows, n - 1), rows < n)


def make(config: Config, run: RunConfig, distiller: Any = None) -> Sequential:
    """Batches of batch.size * batch.number images in order."""
    del config, distiller
    return Sequential(run.batch.size * run.batch.number)
