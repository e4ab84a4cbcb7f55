"""evaluation=held_out: exact kernel ridge regression on validation images instead of test images.

What settings may be chosen by: with validation.disjoint=true these images of the training split
take no part in distilling. Otherwise as krr_nngp and krr_ntk.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from distill_cli.core.types import Coreset, Metric
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.krr import KRRConfig, evaluate_krr

SPLIT = "validation"


@dataclass(frozen=True)
class Config:
    """kernel: nngp or ntk; ridge: relative to trace(K_ss)/n, null: the coreset's own."""

    kernel: Literal["nngp", "ntk"] = "nngp"
    ridge: float | None = None


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol held_out."""
    own = dataclasses.replace(
        problem, test=problem.valid, limit=None, kernels=(config.kernel,), _grams={}
    )
    metric = evaluate_krr(config.kernel, KRRConfig(ridge=config.ridge), coreset, own)
    return dataclasses.replace(metric, protocol="held_out")
