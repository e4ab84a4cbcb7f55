"""Exact kernel regression: leave-one-out, choice of the ridge, calibration; against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import fully_connected
from distill_cli.core.linalg import leave_one_out
from distill_cli.core.types import Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.evaluation import krr_ntk
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.krr import calibration, choose_ridge, fit_log_temperature
from distill_cli.kernels.exact import gram

RNG = np.random.default_rng(0)
SHAPE = (4, 4, 1)


def blobs(n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 3
    centres = np.random.default_rng(7).normal(size=(3, *SHAPE))
    images = centres[labels] + 1.5 * RNG.normal(size=(n, *SHAPE))
    return images.astype(np.float32), labels.astype(np.int32)


def problem(**changes) -> Problem:
    settings = {
        "architecture": fully_connected(1, 1), "dataset": "blobs", "ipc": 4,
        "valid": blobs(150), "test": blobs(200), "ridge": 1e-3, "seed": 0,
    }  # fmt: skip
    return Problem(**(settings | changes))


def coreset() -> Coreset:
    images, labels = blobs(12)
    targets = np.asarray(one_hot_centred(jnp.asarray(labels), 3))
    return Coreset(images, targets, np.zeros((), np.float64))


def test_leave_one_out_equals_leaving_one_out():
    images, labels = blobs(9)
    k = gram(fully_connected(1, 1), images, get="ntk", dtype=np.float64)["ntk"]
    y = np.asarray(one_hot_centred(jnp.asarray(labels), 3), np.float64)
    residuals = leave_one_out(jnp.asarray(k), jnp.asarray(y), 1e-2)
    lam = 1e-2 * np.trace(k) / 9
    for i in range(9):
        others = np.delete(np.arange(9), i)
        alpha = np.linalg.solve(k[np.ix_(others, others)] + lam * np.eye(8), y[others])
        np.testing.assert_allclose(residuals[i], y[i] - k[i, others] @ alpha, rtol=1e-9)


def test_the_ridge_is_chosen_on_validation_images_alone():
    support, one = coreset(), problem()
    ridges = (1e-8, 1e-2, 1.0, 30.0)
    metric = krr_ntk.evaluate(krr_ntk.Config(ridges=ridges), support, one)
    scores = metric.detail["ridge_scores"]
    assert isinstance(scores, dict)
    assert len(scores) == 4
    assert scores[f"{metric.detail['ridge']:g}"] == min(scores.values())
    assert metric.detail["ridge"] != 1e-8  # noisy blobs want regularisation
    fixed = krr_ntk.evaluate(krr_ntk.Config(ridge=metric.detail["ridge"]), support, one)
    assert fixed.accuracy == metric.accuracy
    images, labels = one.test
    shuffled = problem(valid=one.valid, test=(images[::-1], labels))
    other = krr_ntk.evaluate(krr_ntk.Config(ridges=ridges), support, shuffled)
    assert other.detail["ridge_scores"] == scores


def test_candidates_that_are_not_positive_definite_are_left_out():
    k_ss, k_vs = jnp.ones((2, 2)) - 2 * jnp.eye(2), jnp.ones((3, 2))
    y, labels = jnp.ones((2, 2)), jnp.zeros(3, jnp.int32)
    with pytest.raises(UserError, match="not positive definite at any"):
        choose_ridge(k_ss, k_vs, y, labels, (1e-3,))
    k_ss = jnp.asarray([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0]])
    ridge, scores = choose_ridge(k_ss, k_vs, y, labels, (0.0, 1e-3))
    assert (ridge, list(scores)) == (1e-3, ["0.001"])


def test_calibration_minimises_nll_on_validation_images():
    outputs, labels = RNG.normal(size=(400, 3)), RNG.integers(0, 3, 400)
    outputs[np.arange(400), labels] += 0.3
    k = fit_log_temperature(jnp.asarray(outputs), jnp.asarray(labels))

    def nll(k: float) -> float:
        scaled = np.exp(k) * outputs
        logits = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        return -logits[np.arange(400), labels].mean()

    grid = np.linspace(-5, 3, 161)
    assert nll(k) <= min(map(nll, grid)) + 1e-8
    support, one = coreset(), problem()
    plain = krr_ntk.evaluate(krr_ntk.Config(), support, one)
    calibrated = krr_ntk.evaluate(krr_ntk.Config(calibrate=True), support, one)
    assert calibrated.accuracy == plain.accuracy
    assert (plain.nll, plain.ece) == (None, None)  # nobody fitted its k
    assert "calibration" not in plain.detail
    assert calibrated.nll is not None
    unset = support._replace(log_temperature=np.float64(1e-9))
    assert calibrated.nll < (krr_ntk.evaluate(krr_ntk.Config(), unset, one).nll or 0)
    assert (plain.detail["log_temperature"], calibrated.detail["coreset_log_temperature"]) == (0, 0)


def test_wrong_ridges_are_named():
    with pytest.raises(UserError, match=r"krr_ntk.ridges\[1\]=-1"):
        krr_ntk.Config(ridges=(1.0, -1.0))
    with pytest.raises(UserError, match="ridge or ridges"):
        krr_ntk.Config(ridge=1.0, ridges=(1.0,))


def test_bins_of_the_reliability_diagram_against_numpy():
    outputs, labels = RNG.normal(size=(500, 4)), RNG.integers(0, 4, 500)
    found, ece = calibration(jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(0.7))
    scaled = np.exp(0.7) * outputs
    p = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    confidence, hit = p.max(1), p.argmax(1) == labels
    total = 0.0
    for bin in found["bins"]:
        inside = (confidence >= bin["low"]) & (confidence < bin["high"])
        assert bin["images"] == inside.sum()
        if not inside.any():
            assert (bin["confidence"], bin["accuracy"]) == (None, None)
            continue
        np.testing.assert_allclose(bin["confidence"], confidence[inside].mean(), rtol=1e-12)
        np.testing.assert_allclose(bin["accuracy"], hit[inside].mean(), rtol=1e-12)
        total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert len(found["bins"]) == 15
    np.testing.assert_allclose(ece, total, rtol=1e-12)
