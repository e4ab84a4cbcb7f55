"""sampler=uniform: every image alike, each draw without replacement (RFAD code)."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import PRNGKeyArray

from distill_cli.config import Config as RunConfig
from distill_cli.core.types import Batch
from distill_cli.train.batches import TrainingSet, draw, draw_balanced
from distill_cli.train.samplers.base import Stateless


@dataclass(frozen=True)
class Config:
    """balanced: equal numbers of every class in each draw."""

    name: str = "uniform"
    balanced: bool = False


@dataclass(frozen=True)
class Uniform(Stateless):
    """The Sampler without a state. Weights are 1."""

    balanced: bool
    size: int
    number: int

    def draw(
        self, state: tuple[()], train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> Batch:
        del state, distilled
        chosen = draw_balanced if self.balanced else draw
        return chosen(key, train, self.size, self.number)


def make(config: Any, run: RunConfig, distiller: Any = None) -> Uniform:
    """Uniform sampling, balanced as config.balanced says."""
    del distiller
    return Uniform(config.balanced, run.batch.size, run.batch.number)
