"""Means over seeds and networks. Imports no jax."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """mean; std: sample standard deviation (n - 1), None for one value; n: values."""

    mean: float
    std: float | None
    n: int


def mean_std(values: Iterable[float]) -> Spread:
    """Mean and standard deviation of at least one value, in float64."""
    found = np.fromiter(values, np.float64)
    std = float(found.std(ddof=1)) if len(found) > 1 else None
    return Spread(float(found.mean()), std, len(found))
