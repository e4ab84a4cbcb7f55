"""Exact kernel ridge regression on the test set (RFAD section 10.1, KIP section 3).

f(x) = K(x, S) (K_ss + reg trace(K_ss)/n I)^-1 y_s in float64; prediction argmax f(x). NLL, ECE and
the bins of the reliability diagram use softmax(exp(k) f(x)), with the coreset's own k, or with one
fitted on validation images. A coreset whose k nobody fitted (0: squared loss, real images, foreign
files) has no probabilities, and so none of the three unless `calibrate` fits k. The ridge may be
chosen on validation images too. Test images choose nothing.
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from distill_cli.config import at_least
from distill_cli.core.linalg import krr_predict, krr_solve, leave_one_out
from distill_cli.core.losses import accuracy, confidence_bins, mse, platt
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.by_class import confusion_counts

LOG_TEMPERATURES = (-10.0, 20.0)  # where the fitted k is looked for


@dataclass(frozen=True)
class KRRConfig:
    """Settings of exact kernel regression.

    ridge: relative to trace(K_ss)/n; null takes the one the coreset was distilled with.
    ridges: a list of candidates, of which the one with the smallest squared error on the validation
    images is taken; empty: ridge as it is. calibrate: fit k on the validation images instead of
    taking the coreset's; without it NLL and ECE are None where the coreset has none. Both cost the
    kernel of validation images and coreset.
    """

    ridge: float | None = None
    ridges: tuple[float, ...] = ()
    calibrate: bool = False
    kernel: ClassVar[str] = ""

    def __post_init__(self) -> None:
        key = f"evaluation.krr_{self.kernel}"
        if self.ridge is not None:
            at_least(f"{key}.ridge", self.ridge, 0)
        for index, ridge in enumerate(self.ridges):
            at_least(f"{key}.ridges[{index}]", ridge, 0)
        if self.ridges and self.ridge is not None:
            raise UserError(f"{key}: give ridge or ridges, not both")


def evaluate_krr(kernel: str, config: KRRConfig, coreset: Coreset, problem: Problem) -> Metric:
    """Accuracy, 0.5 MSE, and where k is known NLL and ECE, of exact regression with nngp or ntk."""
    seconds = 0.0

    def matrix(images: str) -> Any:
        nonlocal seconds
        grams, took = problem.grams(coreset, images)
        seconds += took
        return jnp.asarray(grams[kernel], jnp.float64)

    k_ss, k_ts, y_s = matrix("coreset"), matrix("test"), jnp.asarray(coreset.labels)
    labels = jnp.asarray(problem.test[1][: problem.limit], jnp.int32)
    ridge = problem.ridge if config.ridge is None else config.ridge
    weights = 1.0 if problem.ridge_weights is None else problem.ridge_weights
    detail: dict[str, object] = {}
    begun = time.monotonic()
    k = jnp.asarray(coreset.log_temperature, jnp.float64)
    if config.ridges or config.calibrate:
        k_vs, valid_labels = matrix("valid"), jnp.asarray(problem.valid[1], jnp.int32)
        if config.ridges:
            ridge, scores = choose_ridge(k_ss, k_vs, y_s, valid_labels, config.ridges, weights)
            detail["ridge_scores"] = scores
        if config.calibrate:
            outputs = krr_predict(k_vs, krr_solve(k_ss, y_s, ridge * weights))
            detail["coreset_log_temperature"] = float(k)
            k = jnp.asarray(fit_log_temperature(outputs, valid_labels))
    outputs = krr_predict(k_ts, krr_solve(k_ss, y_s, ridge * weights))
    if not np.isfinite(np.asarray(outputs)).all():
        raise UserError(
            f"evaluation.krr_{kernel}.ridge={ridge}: K_ss is not positive definite at this ridge; "
            "raise it"
        )
    held_out = leave_one_out(k_ss, y_s, ridge * weights)
    nll = ece = None
    if float(k) or config.calibrate:
        nll = float(jnp.mean(platt(outputs, labels, k)))
        detail["calibration"], ece = calibration(outputs, labels, k)
    guesses = np.asarray(jnp.argmax(outputs, -1))
    return Metric(
        protocol=f"krr_{kernel}",
        accuracy=float(accuracy(outputs, labels)),
        std=None,
        n=1,
        images=int(labels.shape[0]),
        seconds=seconds + time.monotonic() - begun,
        nll=nll,
        ece=ece,
        confusion=confusion_counts([guesses], np.asarray(labels), int(outputs.shape[-1])),
        detail={
            "engine": problem.engine_used,
            "ridge": ridge,
            "log_temperature": float(k),
            "half_mse": float(jnp.mean(mse(outputs, labels, k))),
            "mean_diagonal": float(jnp.trace(k_ss) / k_ss.shape[0]),
            "leave_one_out_half_mse": float(0.5 * jnp.mean(held_out**2)),
            **detail,
        },
    )


def calibration(outputs: Any, labels: Any, k: Any) -> tuple[dict[str, Any], float]:
    """({"bins": [...]}, ECE). A bin: its edges `low` and `high`, `images` in it, their mean
    `confidence` and `accuracy`, both None where it is empty; equal widths on [0, 1]."""
    sums = np.asarray(confidence_bins(outputs, labels, k), np.float64)
    bins = [
        {
            "low": i / len(sums), "high": (i + 1) / len(sums), "images": int(images),
            "confidence": confidence / images if images else None,
            "accuracy": hits / images if images else None,
        }
        for i, (images, confidence, hits) in enumerate(sums.tolist())
    ]  # fmt: skip
    return {"bins": bins}, float(np.abs(sums[:, 2] - sums[:, 1]).sum() / len(outputs))


def choose_ridge(
    k_ss: Any, k_vs: Any, y_s: Any, labels: Any, ridges: tuple[float, ...], weights: Any = 1.0
) -> tuple[float, dict[str, float]]:
    """The candidate with the smallest 0.5 MSE on validation images, and every candidate's.

    Candidates at which K_ss is not positive definite are left out; UserError if none remains.
    """
    scores = {}
    for ridge in ridges:
        outputs = krr_predict(k_vs, krr_solve(k_ss, y_s, ridge * weights))
        score = float(jnp.mean(mse(outputs, labels, jnp.zeros(()))))
        if np.isfinite(score):
            scores[ridge] = score
    if not scores:
        raise UserError(
            f"evaluation.krr ridges={list(ridges)}: K_ss is not positive definite at any of them; "
            "give larger ones"
        )
    best = min(scores, key=lambda ridge: (scores[ridge], ridge))
    return best, {f"{ridge:g}": score for ridge, score in scores.items()}


def fit_log_temperature(outputs: Any, labels: Any) -> float:
    """k that minimises the mean NLL of softmax(exp(k) f) on the given images (Guo et al. 2017).

    One number fitted by bounded scalar minimisation of a function that is convex in exp(k).
    """
    from scipy.optimize import minimize_scalar

    def nll(k: float) -> float:
        return float(jnp.mean(platt(outputs, labels, jnp.asarray(k))))

    found: Any = minimize_scalar(nll, bounds=LOG_TEMPERATURES, method="bounded")
    return float(found.x)
