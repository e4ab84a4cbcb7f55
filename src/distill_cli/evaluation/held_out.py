"""evaluation=held_out: another protocol on validation images instead of test images.

What settings may be chosen by: with validation.disjoint=true these images of the training split
take no part in distilling. A protocol that chooses something by validation images itself (finite;
ridges and calibrate of exact regression) is refused.
"""

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any, Literal

from distill_cli.config import PROTOCOL_MODULE
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError, shown
from distill_cli.evaluation.base import Problem, exact_kernels
from distill_cli.evaluation.base import evaluate as evaluate_by_name
from distill_cli.typed import build

SPLIT = "validation"


@dataclass(frozen=True)
class Config:
    """protocol: the one that measures; settings: its keys that differ from their defaults."""

    protocol: Literal["krr_nngp", "krr_ntk", "frepo", "dc", "dsa", "kip_finite"] = "krr_nngp"
    settings: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        inner = self.inner
        for key in ("ridges", "calibrate"):
            if value := getattr(inner, key, False):
                raise UserError(
                    f"evaluation.held_out.settings.{key}={shown(value)}: chooses by the "
                    "validation images that are measured on; leave it out"
                )

    @property
    def inner(self) -> Any:
        """The settings of the protocol that measures."""
        module = importlib.import_module(PROTOCOL_MODULE.format(name=self.protocol))
        return build(module.Config, self.settings or {}, "evaluation.held_out.settings.")


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol held_out."""
    kernels = exact_kernels([config.protocol])
    own = dataclasses.replace(problem, test=problem.valid, limit=None, kernels=kernels, _grams={})
    metric = evaluate_by_name(config.protocol, config.inner, coreset, own)
    detail = {**metric.detail, "measured_by": config.protocol}
    return dataclasses.replace(metric, protocol="held_out", detail=detail)
