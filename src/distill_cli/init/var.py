"""init=var: greedily reduce the variance left in each class (RFAD section 6)."""

from dataclasses import dataclass

import numpy as np

from distill_cli.init.base import Initial, Request
from distill_cli.init.greedy import GreedyConfig, greedy


@dataclass(frozen=True)
class Config(GreedyConfig):
    """See GreedyConfig."""

    name: str = "var"


def reduce_variance(gram: np.ndarray, count: int) -> np.ndarray:
    """Rows in the order picked: argmax_j sum_i K_ij^2 / K_jj - K_jj, K deflated after each pick.

    A row whose variance is used up (K_jj at rounding level) is not picked while others are left.
    """
    gram = gram.copy()
    floor = 1e-10 * np.diag(gram).max()
    picks: list[int] = []
    for _ in range(count):
        diagonal = np.diag(gram).copy()
        usable = diagonal > floor
        score = np.where(
            usable, (gram**2).sum(0) / np.where(usable, diagonal, 1) - diagonal, -1e300
        )
        score[picks] = -np.inf
        best = int(np.argmax(score))
        picks.append(best)
        if usable[best]:
            gram -= np.outer(gram[:, best], gram[best]) / diagonal[best]
    return np.array(picks)


def initial(config: Config, request: Request) -> Initial:
    """Training images of each class that explain most of its variance."""
    return greedy(config, request, reduce_variance)
