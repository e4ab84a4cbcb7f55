"""k-means in NumPy: D^2 seeding, Lloyd's iterations, distances in blocks."""

from typing import NamedTuple

import numpy as np

BLOCK_NUMBERS = 2**24  # distances held at once


class Clusters(NamedTuple):
    """centres: (k, p); assignment: (n,) the nearest centre; squared: (n,) squared distance."""

    centres: np.ndarray
    assignment: np.ndarray
    squared: np.ndarray

    def sizes(self) -> np.ndarray:
        """Points of each cluster, (k,)."""
        return np.bincount(self.assignment, minlength=len(self.centres))


def kmeans(
    x: np.ndarray,
    k: int,
    generator: np.random.Generator,
    iterations: int = 20,
    plusplus: bool = True,
) -> Clusters:
    """k clusters of the rows of x (n, p), k <= n.

    iterations: Lloyd's, 0 for the seeds alone; plusplus: D^2 seeding (Arthur and Vassilvitskii
    2007), else seeds drawn uniformly. A cluster that loses its points keeps its centre.
    """
    origin = x.mean(0)
    x = x - origin  # smaller numbers, smaller cancellation in |x|^2 - 2 x c + |c|^2
    seeds = d2_seeds(x, k, generator) if plusplus else generator.choice(len(x), k, replace=False)
    centres = x[seeds]
    if k == 1:
        centres = x.mean(0, keepdims=True)
    found = nearest(x, centres)
    for _ in range(iterations if k > 1 else 0):
        centres = means(x, found.assignment, centres)
        moved = nearest(x, centres)
        settled = np.array_equal(moved.assignment, found.assignment)
        found = moved
        if settled:
            break
    return found._replace(centres=found.centres + origin)


def d2_seeds(x: np.ndarray, k: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of k seeds: the first uniform, each next with probability proportional to D^2.

    Where all distances are 0 the rest is drawn uniformly from the rows that are left.
    """
    picks = [int(generator.integers(len(x)))]
    squared = np.full(len(x), np.inf)
    while len(picks) < k:
        squared = np.minimum(squared, ((x - x[picks[-1]]) ** 2).sum(1, dtype=np.float64))
        squared[picks] = 0
        total = squared.sum()
        if total > 0:
            pick = int(np.searchsorted(np.cumsum(squared), generator.random() * total, "right"))
            pick = min(pick, len(x) - 1)
        else:
            left = np.setdiff1d(np.arange(len(x)), picks)
            pick = int(generator.choice(left))
        picks.append(pick)
    return np.array(picks)


def nearest(x: np.ndarray, centres: np.ndarray) -> Clusters:
    """The centre nearest to each row."""
    assignment, squared = np.empty(len(x), np.int64), np.empty(len(x))
    step = max(1, BLOCK_NUMBERS // len(centres))
    for at in range(0, len(x), step):
        block = x[at : at + step]
        assignment[at : at + step] = (-2 * (block @ centres.T) + (centres**2).sum(1)).argmin(1)
        # The distance itself without cancellation: a point on its centre has distance 0.
        difference = block - centres[assignment[at : at + step]]
        squared[at : at + step] = (difference**2).sum(1, dtype=np.float64)
    return Clusters(centres, assignment, squared)


def means(x: np.ndarray, assignment: np.ndarray, former: np.ndarray) -> np.ndarray:
    """Means of the clusters, (k, p); the former centre of an empty one."""
    order = np.argsort(assignment, kind="stable")
    present, starts = np.unique(assignment[order], return_index=True)
    counts = np.diff(np.append(starts, len(x)))
    centres = former.copy()
    centres[present] = np.add.reduceat(x[order], starts, axis=0) / counts[:, None]
    return centres


def medoids(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The row nearest to each centre, no row twice, (k,)."""
    free = np.ones(len(x), bool)
    picks = []
    for centre in centres:
        squared = ((x - centre) ** 2).sum(1, dtype=np.float64)
        picks.append(int(np.where(free, squared, np.inf).argmin()))
        free[picks[-1]] = False
    return np.array(picks)
