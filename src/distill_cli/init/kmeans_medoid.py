"""init=kmeans_medoid: the real image nearest to each of ipc k-means centres of a class.

The default initialisation of DREAM (Liu et al. 2023), in the features chosen.
"""

from dataclasses import dataclass

import numpy as np

from distill_cli.config import at_least
from distill_cli.init.base import Initial, Request
from distill_cli.init.features import Features
from distill_cli.init.kmeans import kmeans, medoids
from distill_cli.init.selection import SelectionConfig, select


@dataclass(frozen=True)
class Config(SelectionConfig):
    """iterations: of Lloyd's algorithm, at most."""

    name: str = "kmeans_medoid"
    iterations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("init.iterations", self.iterations, 0)


def initial(config: Config, request: Request) -> Initial:
    """Medoids of each class; no image twice."""
    features = Features(config, request)

    def pick(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        phi = features.of(rows)
        return rows[medoids(phi, kmeans(phi, count, generator, config.iterations).centres)]

    return select(config, request, pick)
