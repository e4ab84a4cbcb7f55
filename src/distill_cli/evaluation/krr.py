"""Exact kernel ridge regression on the test set (RFAD section 10.1, KIP section 3).

f(x) = K(x, S) (K_ss + reg trace(K_ss)/n I)^-1 y_s in float64; prediction argmax f(x). NLL and ECE
use softmax(exp(k) f(x)) with the coreset's own temperature.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from distill_cli.config import at_least
from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.losses import accuracy, expected_calibration_error, mse, platt
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError
from distill_cli.evaluation.base import Problem


@dataclass(frozen=True)
class KRRConfig:
    """ridge: relative to trace(K_ss)/n; None takes the one the coreset was distilled with."""

    ridge: float | None = None
    kernel: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.ridge is not None:
            at_least(f"evaluation.krr_{self.kernel}.ridge", self.ridge, 0)


def evaluate_krr(kernel: str, config: KRRConfig, coreset: Coreset, problem: Problem) -> Metric:
    """Accuracy, NLL, ECE and 0.5 MSE of exact regression with the kernel nngp or ntk."""
    grams, seconds = problem.grams(coreset)
    k_ss, k_ts = (jnp.asarray(part, jnp.float64) for part in grams[kernel])
    labels = jnp.asarray(problem.test[1][: problem.limit], jnp.int32)
    ridge = problem.ridge if config.ridge is None else config.ridge
    alpha = krr_solve(k_ss, jnp.asarray(coreset.labels), ridge)
    outputs = krr_predict(k_ts, alpha)
    if not np.isfinite(np.asarray(outputs)).all():
        raise UserError(
            f"evaluation.krr_{kernel}.ridge={ridge}: K_ss is not positive definite at this ridge; "
            "raise it"
        )
    k = jnp.asarray(coreset.log_temperature, jnp.float64)
    return Metric(
        protocol=f"krr_{kernel}",
        accuracy=float(accuracy(outputs, labels)),
        std=None,
        n=1,
        images=int(labels.shape[0]),
        seconds=seconds,
        nll=float(jnp.mean(platt(outputs, labels, k))),
        ece=float(expected_calibration_error(outputs, labels, k)),
        detail={
            "ridge": ridge,
            "half_mse": float(jnp.mean(mse(outputs, labels, k))),
            "mean_diagonal": float(jnp.trace(k_ss) / k_ss.shape[0]),
        },
    )
