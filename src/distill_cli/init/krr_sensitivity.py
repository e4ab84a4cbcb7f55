"""init=krr_sensitivity: real images drawn in proportion to their weight in kernel ridge regression.

p_i proportional to tau_i = H_ii + E_i S^+ E_i' (init/leverage.py). After Tukan, Maalouf, Osadchy,
"Dataset Distillation Meets Provable Subset Selection" (arXiv 2307.08086); formulas ours.
"""

from dataclasses import dataclass

from distill_cli.init.base import Initial, Request
from distill_cli.init.selection import LeverageConfig, SampledConfig, sample, scored


@dataclass(frozen=True)
class Config(LeverageConfig, SampledConfig):
    """See LeverageConfig and SampledConfig. label_term: count also how badly an image is fitted."""

    name: str = "krr_sensitivity"
    label_term: bool = True


def initial(config: Config, request: Request) -> Initial:
    """Training images drawn with probability proportional to tau."""
    found = scored(config, request)
    scores = found.ridge + found.label if config.label_term else found.ridge
    return sample(config, request, scores, found.record)
