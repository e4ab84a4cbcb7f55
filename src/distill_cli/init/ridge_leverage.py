"""init=ridge_leverage: real images drawn in proportion to H_ii = (K (K + lam I)^-1)_ii.

The classical ridge leverage scores (Alaoui and Mahoney 2015); t copies of an image share less than
1 in total.
"""

from dataclasses import dataclass

from distill_cli.init.base import Initial, Request
from distill_cli.init.selection import LeverageConfig, SampledConfig, sample, scored


@dataclass(frozen=True)
class Config(LeverageConfig, SampledConfig):
    """See LeverageConfig and SampledConfig."""

    name: str = "ridge_leverage"


def initial(config: Config, request: Request) -> Initial:
    """Training images drawn with probability proportional to their ridge leverage."""
    found = scored(config, request)
    return sample(config, request, found.ridge, found.record)
