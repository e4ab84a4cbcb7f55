"""Kernel ridge regression, losses and scores against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.core.keys import named_key, step_key
from distill_cli.core.linalg import krr_predict, krr_solve, ridge
from distill_cli.core.losses import accuracy, expected_calibration_error, mse, platt
from distill_cli.core.types import one_hot_centred

rng = np.random.default_rng(0)


def kernel(n: int) -> np.ndarray:
    features = rng.normal(size=(n, 7))
    return features @ features.T


def test_krr_equals_numpy_solve():
    k_ss, k_ts, y = kernel(9), rng.normal(size=(5, 9)), rng.normal(size=(9, 3))
    expected = k_ts @ np.linalg.solve(k_ss + 5e-3 * np.trace(k_ss) / 9 * np.eye(9), y)
    found = krr_predict(jnp.asarray(k_ts), krr_solve(jnp.asarray(k_ss), jnp.asarray(y), 5e-3))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.dtype == jnp.float64


@pytest.mark.parametrize("reg", [1e-2, np.linspace(1e-3, 1e-1, 8)])
def test_derivatives_of_the_solve_are_finite_differences(reg):
    """Reverse and forward mode, in K and y; NumPy's solve gives the differences."""
    k_ss, y = kernel(8), rng.normal(size=(8, 3))
    d_k, d_y, seen = rng.normal(size=(8, 8)), rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    d_k = d_k + d_k.T

    def exact(t: float) -> np.ndarray:
        k = k_ss + t * d_k
        return np.linalg.solve(k + np.trace(k) / 8 * np.diag(np.broadcast_to(reg, 8)), y + t * d_y)

    slope = (exact(1e-6) - exact(-1e-6)) / 2e-6

    def solve(k, y):
        return krr_solve(k, y, reg)

    point, direction = (jnp.asarray(k_ss), jnp.asarray(y)), (jnp.asarray(d_k), jnp.asarray(d_y))
    _, forward = jax.jvp(solve, point, direction)
    np.testing.assert_allclose(forward, slope, rtol=1e-6, atol=1e-6)
    by_k, by_y = jax.grad(lambda k, y: jnp.sum(solve(k, y) * seen), (0, 1))(*point)
    found = float(jnp.sum(by_k * d_k) + jnp.sum(by_y * d_y))
    assert found == pytest.approx(float(np.sum(slope * seen)), rel=1e-6)


def test_an_infinite_or_indefinite_kernel_gives_nan():
    for k_ss in (np.full((4, 4), np.inf), -np.eye(4), np.diag([1.0, np.inf, 1.0, 1.0])):
        assert np.isnan(krr_solve(jnp.asarray(k_ss), jnp.ones((4, 2)), 5e-3)).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_prediction_does_not_depend_on_the_kernels_scale(scale):
    k_ss, k_ts, y = kernel(6), rng.normal(size=(4, 6)), rng.normal(size=(6, 2))
    one = krr_predict(jnp.asarray(k_ts), krr_solve(jnp.asarray(k_ss), jnp.asarray(y), 1e-2))
    other = krr_predict(scale * k_ts, krr_solve(jnp.asarray(scale * k_ss), jnp.asarray(y), 1e-2))
    np.testing.assert_allclose(one, other, rtol=1e-8)


def test_ridge_caps_the_condition_number():
    ones = jnp.ones((50, 50))  # rank one: the worst kernel there is
    assert np.linalg.cond(np.asarray(ridge(ones, 5e-3))) == pytest.approx(50 / 5e-3 + 1, rel=1e-6)


def test_platt_and_mse_against_numpy():
    outputs, labels, k = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), 1.3
    logits = np.exp(k) * outputs
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), labels]
    found = platt(jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(k))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    targets = np.eye(4)[labels] - 0.25
    found = mse(jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(k))
    np.testing.assert_allclose(found, 0.5 * ((outputs - targets) ** 2).mean(1), rtol=1e-10)


def test_centred_targets_sum_to_zero():
    targets = one_hot_centred(jnp.array([0, 9]), 10)
    np.testing.assert_allclose(targets.sum(1), 0, atol=1e-6)
    assert targets[0, 0] == pytest.approx(0.9)
    assert targets[1, 0] == pytest.approx(-0.1)
    assert targets.dtype == jnp.float32


def test_accuracy_counts_argmax():
    outputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert float(accuracy(outputs, jnp.array([0, 1, 1]))) == pytest.approx(2 / 3)


def test_calibration_error_is_zero_for_frequencies_and_large_for_overconfidence():
    n = 20000
    probability = rng.uniform(0.5, 1.0, n)
    outputs = np.stack([np.log(probability), np.log1p(-probability)], 1)
    labels = (rng.uniform(size=n) > probability).astype(int)
    zero = jnp.zeros(())
    assert float(expected_calibration_error(jnp.asarray(outputs), jnp.asarray(labels), zero)) < 0.02
    sure = jnp.asarray(np.sign(outputs[:, :1] - outputs[:, 1:]) * np.array([[50.0, -50.0]]))
    wrong = float((labels != 0).mean())
    found = float(expected_calibration_error(sure, jnp.asarray(labels), zero))
    assert found == pytest.approx(wrong, abs=1e-9)


def test_keys_depend_on_seed_name_and_step_only():
    def bits(seed: int, name: str, step: int) -> int:
        return int(jax.random.bits(step_key(named_key(seed, name), step)))

    assert bits(0, "batch", 3) == bits(0, "batch", 3)
    drawn = {bits(s, n, t) for s in (0, 1) for n in ("batch", "step") for t in (0, 1)}
    assert len(drawn) == 8


def test_a_support_image_with_a_tth_of_the_ridge_stands_for_t_copies():
    """(K + diag(lam / t))^-1 y predicts what regression on t copies of each image does."""
    features, y, t = rng.normal(size=(6, 4)), rng.normal(size=(6, 2)), np.array([1, 3, 1, 2, 5, 1])
    features /= np.linalg.norm(features, axis=1, keepdims=True)  # so that trace / n is 1 for both
    k_ts = rng.normal(size=(5, 4)) @ features.T
    many = np.repeat(features, t, axis=0)
    copies = krr_solve(jnp.asarray(many @ many.T), jnp.asarray(np.repeat(y, t, axis=0)), 1e-2)
    wanted = np.repeat(k_ts, t, axis=1) @ np.asarray(copies)
    alpha = krr_solve(jnp.asarray(features @ features.T), jnp.asarray(y), 1e-2 / t)
    np.testing.assert_allclose(krr_predict(jnp.asarray(k_ts), alpha), wanted, rtol=1e-8, atol=1e-10)
