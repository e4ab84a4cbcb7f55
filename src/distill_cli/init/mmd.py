"""init=mmd: kernel herding, greedily matching the class mean embedding (RFAD section 6)."""

from dataclasses import dataclass

import numpy as np

from distill_cli.init.base import Initial, Request
from distill_cli.init.greedy import GreedyConfig, greedy


@dataclass(frozen=True)
class Config(GreedyConfig):
    """See GreedyConfig."""

    name: str = "mmd"


def herd(gram: np.ndarray, count: int) -> np.ndarray:
    """Rows as picked: argmax_j 2 mean_i K_ij - (2 sum_{r in R} K_rj + K_jj) / (|R| + 1)."""
    mean, diagonal = gram.mean(0), np.diag(gram)
    taken = np.zeros_like(mean)
    picks: list[int] = []
    for size in range(count):
        score = 2 * mean - (2 * taken + diagonal) / (size + 1)
        score[picks] = -np.inf
        picks.append(int(np.argmax(score)))
        taken += gram[picks[-1]]
    return np.array(picks)


def initial(config: Config, request: Request) -> Initial:
    """Herded training images of each class."""
    return greedy(config, request, herd)
