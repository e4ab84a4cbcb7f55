"""evaluation=krr_ntk: exact NTK kernel ridge regression on the test set."""

from dataclasses import dataclass
from typing import ClassVar

from distill_cli.core.types import Coreset, Metric
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.krr import KRRConfig, evaluate_krr

KERNEL = "ntk"


@dataclass(frozen=True)
class Config(KRRConfig):
    """See KRRConfig."""

    kernel: ClassVar[str] = KERNEL


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol krr_ntk."""
    return evaluate_krr(KERNEL, config, coreset, problem)
