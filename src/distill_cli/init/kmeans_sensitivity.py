"""init=kmeans_sensitivity: real images drawn by an upper bound of their k-means sensitivity.

Per class, with centres B (k = ipc, D^2 seeding), clusters B_b, mean cost c = mean_j d^2(x_j, B):

    s_i = 2 alpha d^2(x_i, B) / c + 4 alpha sum_{j in B_b(i)} d^2(x_j, B) / (|B_b(i)| c)
          + 4 n / |B_b(i)|

whose mean is 6 alpha + 4 k (Bachem, Lucic, Krause 2017; alpha = 8 (log k + 2) bounds the expected
excess of D^2 seeding). The loss that arXiv 2307.08086 names for methods without a kernel; formulas
ours.
"""

from dataclasses import dataclass

import numpy as np

from distill_cli.init.base import Initial, Request
from distill_cli.init.features import Features
from distill_cli.init.kmeans import Clusters, kmeans
from distill_cli.init.selection import SampledConfig, groups, sample


@dataclass(frozen=True)
class Config(SampledConfig):
    """See SampledConfig. light: q_i = 1/(2 n) + d^2(x_i, mean) / (2 sum d^2) in place of s_i
    (Bachem et al. 2018)."""

    name: str = "kmeans_sensitivity"
    light: bool = False


def factor(k: int) -> float:
    """alpha: expected cost of k seeds over the best; 1 for one centre, the mean."""
    return 1.0 if k == 1 else 8 * (np.log(k) + 2)


def sensitivity(found: Clusters, alpha: float) -> np.ndarray:
    """s (n,); all 1 where every point lies on its centre."""
    sizes = found.sizes()
    mean = found.squared.mean()
    if not mean > 0:
        return np.ones(len(found.squared))
    costs = np.bincount(found.assignment, found.squared, minlength=len(sizes))
    size, cost = sizes[found.assignment], costs[found.assignment]
    return (2 * found.squared + 4 * cost / size) * alpha / mean + 4 * len(found.squared) / size


def initial(config: Config, request: Request) -> Initial:
    """Training images drawn with probability proportional to s."""
    features, generator = Features(config, request), request.generator("kmeans")
    scores = np.empty(len(request.labels))
    for rows, count in groups(request, config.balanced):
        k = 1 if config.light else count
        found = kmeans(features.of(rows), k, generator, iterations=0)
        if config.light:
            total = found.squared.sum()
            part = found.squared / total if total > 0 else 1 / len(rows)
            scores[rows] = 0.5 / len(rows) + 0.5 * part
        else:
            scores[rows] = sensitivity(found, factor(k))
    return sample(config, request, scores, {"alpha": factor(count)})
