"""evaluation=dsa: the protocol of DC, DSA and DM with differentiable siamese augmentation.

Zhao & Bilen, ICML 2021 (arXiv 2102.08259); the training of evaluation=dc with one family of the
strategy drawn for every batch and parameters for every image, E = 1000.
"""

from dataclasses import dataclass

from distill_cli.augment import dsa as families
from distill_cli.augment import strategy
from distill_cli.core.types import Coreset, Metric
from distill_cli.evaluation import dc
from distill_cli.evaluation.base import Problem


@dataclass(frozen=True)
class Config(dc.Config):
    """epochs: E (None: 1000); augmentation: families of augment.dsa joined by _, none, or auto
    (all of them, without flip on digits: MNIST, SVHN and their like)."""

    def __post_init__(self) -> None:
        self.check("dsa")
        dc.check_training("dsa", self)
        if self.augmentation != "auto":
            strategy.parse(self.augmentation, families.FAMILIES, "evaluation.dsa.augmentation")


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol dsa, on all test images."""
    chosen = config.augmentation
    if chosen == "auto":
        chosen = families.default_strategy(problem.dataset)
    return dc.run_sgd("dsa", "dsa", chosen, config, coreset, problem)
