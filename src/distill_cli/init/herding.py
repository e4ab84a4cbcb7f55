"""init=herding: greedily matching the mean feature vector of each class.

Pick argmax_j <(t + 1) mu - sum of the t picks so far, phi_j>, no image twice (Welling 2009; the
selection of continual-learning memories). init=mmd minimises the distance to the mean itself and
needs a kernel matrix of each class; here n_c p numbers are enough.
"""

from dataclasses import dataclass

import numpy as np

from distill_cli.init.base import Initial, Request
from distill_cli.init.features import Features
from distill_cli.init.selection import SelectionConfig, select


@dataclass(frozen=True)
class Config(SelectionConfig):
    """See SelectionConfig. Features are scaled to norm 1."""

    name: str = "herding"


def herd(phi: np.ndarray, count: int) -> np.ndarray:
    """Rows of phi (n, p) as picked."""
    norms = np.linalg.norm(phi, axis=1, keepdims=True)
    unit = phi / np.where(norms > 0, norms, 1)
    towards = phi_mean = unit.mean(0, dtype=np.float64)
    picks: list[int] = []
    for _ in range(count):
        gain = unit @ towards
        gain[picks] = -np.inf
        picks.append(int(gain.argmax()))
        towards = towards + phi_mean - unit[picks[-1]]
    return np.array(picks)


def initial(config: Config, request: Request) -> Initial:
    """Herded training images of each class."""
    features = Features(config, request)
    return select(config, request, lambda rows, count, _: rows[herd(features.of(rows), count)])
