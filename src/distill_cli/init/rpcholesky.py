"""init=rpcholesky: randomly pivoted Cholesky, images unlike those already taken.

Pick i with probability proportional to the residual k_ii - k_iS K_SS^-1 k_Si, update, repeat
(Chen, Epperly, Tropp, Webber 2022): D^2 seeding in the kernel's feature space, with the picks made
orthogonal. Time n_c ipc p, memory n_c ipc.
"""

import logging
from dataclasses import dataclass

import numpy as np

from distill_cli.init.base import Initial, Request
from distill_cli.init.features import Features
from distill_cli.init.selection import SelectionConfig, select

USED_UP = 1e-5  # residual, relative to the largest diagonal, that is float32 rounding
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config(SelectionConfig):
    """See SelectionConfig."""

    name: str = "rpcholesky"


def pivots(
    phi: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """(rows picked, residual diagonal that is left (n,), picks made uniformly).

    Where the residuals are used up (copies of the picks), what is missing is drawn uniformly.
    """
    residual = (phi.astype(np.float64) ** 2).sum(1)
    floor = USED_UP * max(residual.max(), 0)
    factor = np.zeros((len(phi), count))
    picks: list[int] = []
    uniform = 0
    for step in range(count):
        weights = np.where(residual > floor, residual, 0)
        weights[picks] = 0
        if not weights.sum() > 0:
            weights = np.ones(len(phi))
            weights[picks] = 0
            uniform += 1
        pick = int(generator.choice(len(phi), p=weights / weights.sum()))
        picks.append(pick)
        if residual[pick] > floor:
            column = phi @ phi[pick] - factor[:, :step] @ factor[pick, :step]
            factor[:, step] = column / residual[pick] ** 0.5
            residual = np.maximum(residual - factor[:, step] ** 2, 0)
    return np.array(picks), residual, uniform


def initial(config: Config, request: Request) -> Initial:
    """Pivots of each class."""
    features = Features(config, request)
    fallbacks = []

    def pick(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        picks, _, uniform = pivots(features.of(rows), count, generator)
        fallbacks.append(uniform)
        return rows[picks]

    found = select(config, request, pick)
    if sum(fallbacks):
        log.warning("init=rpcholesky: %d images drawn uniformly, nothing new was left",
                    sum(fallbacks))  # fmt: skip
    return found._replace(record={**(found.record or {}), "fallbacks": sum(fallbacks)})
