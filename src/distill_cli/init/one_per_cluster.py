"""init=one_per_cluster: ipc clusters of each class, one image of each drawn by its KRR sensitivity.

k-means keeps near-copies apart from what is new, tau (init/leverage.py) chooses inside a cluster.
"""

from dataclasses import dataclass

import numpy as np

from distill_cli.config import at_least
from distill_cli.init.base import Initial, Request
from distill_cli.init.features import Features
from distill_cli.init.kmeans import kmeans
from distill_cli.init.selection import LeverageConfig, draw, scored, select


@dataclass(frozen=True)
class Config(LeverageConfig):
    """See LeverageConfig. iterations: of Lloyd's algorithm, at most."""

    name: str = "one_per_cluster"
    iterations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("init.iterations", self.iterations, 0)


def initial(config: Config, request: Request) -> Initial:
    """One image per cluster; a cluster without images is made up for from all that are left."""
    found, features = scored(config, request), Features(config, request)
    tau, record = found.ridge + found.label, found.record

    def pick(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        clusters = kmeans(features.of(rows), count, generator, config.iterations)
        picks: list[int] = []
        for cluster in np.flatnonzero(clusters.sizes()):
            members = np.flatnonzero(clusters.assignment == cluster)
            picks.append(int(members[draw(tau[rows[members]], 1, generator)[0][0]]))
        left = np.setdiff1d(np.arange(len(rows)), picks)
        if missing := count - len(picks):
            picks.extend(left[draw(tau[rows[left]], missing, generator)[0]])
        return rows[np.array(picks)]

    return select(config, request, pick, {**record, "scores": tau, "total": float(tau.sum())})
