"""init=k_center: greedy k-center, the image farthest from all chosen ones, again and again.

From the first image on pick argmax_j min_{r in R} ||phi_j - phi_r||: at most twice the smallest
possible largest distance to a chosen image (Gonzalez 1985; Sener and Savarese 2018 for choosing
training images). It covers a class's outliers, not its typical images.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill_cli.init.base import Initial, Request
from distill_cli.init.features import Features
from distill_cli.init.selection import SelectionConfig, select


@dataclass(frozen=True)
class Config(SelectionConfig):
    """first: random, or mean (the image nearest to the mean). Counts among the ipc."""

    name: str = "k_center"
    first: Literal["random", "mean"] = "random"


def farthest_first(phi: np.ndarray, first: int, count: int) -> np.ndarray:
    """Rows of phi (n, p) as picked, beginning with `first`; none twice, ties go to the first."""
    squares = np.einsum("np,np->n", phi, phi, dtype=np.float64)
    nearest = np.full(len(phi), np.inf)
    picks = [first]
    while len(picks) < count:
        new = picks[-1]
        distance = squares + squares[new] - 2 * (phi @ phi[new]).astype(np.float64)
        nearest = np.minimum(nearest, np.maximum(distance, 0))
        nearest[picks] = -1  # below every distance, for duplicates of a chosen image
        picks.append(int(nearest.argmax()))
    return np.array(picks)


def initial(config: Config, request: Request) -> Initial:
    """Images of each class, farthest first."""
    features = Features(config, request)

    def pick(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        phi = features.of(rows)
        if config.first == "mean":
            start = int(np.square(phi - phi.mean(0)).sum(1).argmin())
        else:
            start = int(generator.integers(len(rows)))
        return rows[farthest_first(phi, start, count)]

    return select(config, request, pick)
