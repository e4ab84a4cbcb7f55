"""Ridge leverage and KRR sensitivity: slow formulas, primal and dual, copies, precision."""

import logging

import numpy as np
import pytest

from distill_cli.errors import UserError
from distill_cli.init.leverage import Matrix, leverage, ridge_of

rng = np.random.default_rng(0)
N, P, C = 60, 25, 4
LABELS = rng.integers(0, C, N)
PHI = rng.normal(size=(N, P)) * np.linspace(1, 0.01, P)
Y = np.eye(C)[LABELS] - 1 / C


def direct_tau(phi: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """Leverage of the rows [phi_i, -Y_i], ridge on the first block alone, by one big inverse."""
    rows = np.concatenate([phi, -targets], axis=1)
    penalty = np.zeros(rows.shape[1])
    penalty[: phi.shape[1]] = ridge
    inverse = np.linalg.pinv(rows.T @ rows + np.diag(penalty), rcond=1e-13)
    return ((rows @ inverse) * rows).sum(1)


@pytest.mark.parametrize("dual", [True, False])
@pytest.mark.parametrize("lam", [1e-2, 1e-4, 1e-7])
def test_the_block_formula_is_the_leverage_of_features_and_labels(lam, dual):
    found = leverage(Matrix(PHI, 7), Y, lam=lam, dual=dual)
    wanted = direct_tau(PHI, Y, lam * (PHI**2).sum())
    tolerance = 1e-3 if found.precision == "float32" else 1e-8
    np.testing.assert_allclose(found.tau, wanted, rtol=tolerance)
    assert found.tau.sum() <= found.effective_dimension + C


def test_no_query_exceeds_the_sensitivity_and_one_attains_it():
    """sup over (w, c) of f_i / (sum f_j + ridge |w|^2), tried at random and at its maximiser."""
    found = leverage(Matrix(PHI), Y, lam=1e-3, dual=True)
    rows = np.concatenate([PHI, -Y], axis=1)
    penalty = np.diag(np.r_[np.full(P, found.lam), np.zeros(C)])
    moment = rows.T @ rows + penalty

    def share(query: np.ndarray, i: int) -> float:
        return float((rows[i] @ query) ** 2 / (query @ moment @ query))

    for i in range(0, N, 7):
        for _ in range(50):
            assert share(rng.normal(size=P + C), i) <= found.tau[i] + 1e-12
        best = np.linalg.pinv(moment, rcond=1e-13) @ rows[i]
        assert share(best, i) == pytest.approx(found.tau[i], rel=1e-8)


def test_primal_equals_dual_in_float64():
    one = leverage(Matrix(PHI, 13), Y, lam=1e-7, dual=False)
    other = leverage(Matrix(PHI), Y, lam=1e-7, dual=True)
    assert (one.precision, other.precision) == ("float64", "float64")
    for name in ("ridge", "label", "residual"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-7, atol=1e-10)
    assert one.lam == pytest.approx(other.lam, rel=1e-12)
    assert one.effective_dimension == pytest.approx(other.effective_dimension, rel=1e-8)


@pytest.mark.parametrize("lam", [1e-3, 1e-5, 1e-6])
def test_float32_is_within_a_thousandth_of_float64(lam):
    found = leverage(Matrix(PHI.astype(np.float32), 16), Y, lam=lam, dual=False)
    exact = leverage(Matrix(PHI), Y, lam=lam, dual=True)
    assert found.precision == "float32"
    np.testing.assert_allclose(found.ridge, exact.ridge, rtol=1e-3)


def test_float64_takes_over_where_float32_breaks_down(caplog):
    """A ridge that float32 would still be tried at, on features that are too ill-conditioned."""
    caplog.set_level(logging.INFO, logger="distill_cli")
    small = leverage(Matrix(PHI), Y, lam=1e-9, dual=False)
    assert small.precision == "float64" and "float64" in caplog.text
    caplog.clear()
    steep = rng.normal(size=(N, P)) * 10 ** -np.linspace(0, 3.3, P)
    target = leverage(Matrix(steep), Y, effective_dimension=22.0, dual=False)
    assert target.lam < 1e-6 * target.trace
    assert target.precision == "float64" and "too coarse" in caplog.text


def test_copies_share_less_than_one():
    """A point with score h, copied t times: t h / (1 + (t - 1) h) in total, all equal."""
    ridge = 0.05 * (PHI**2).sum()
    alone = leverage(Matrix(PHI), Y, lam=0.05, dual=True)
    h, times = alone.ridge[0], 30
    many = np.concatenate([np.repeat(PHI[:1], times, 0), PHI[1:]])
    targets = np.concatenate([np.repeat(Y[:1], times, 0), Y[1:]])
    found = leverage(Matrix(many), targets, lam=ridge / (many**2).sum(), dual=True)
    copies = found.ridge[:times]
    np.testing.assert_allclose(copies, copies[0], rtol=1e-9)
    assert copies.sum() == pytest.approx(times * h / (1 + (times - 1) * h), rel=1e-9)
    assert copies.sum() < 1
    assert found.ridge.sum() - alone.ridge.sum() < 1 - h


@pytest.mark.parametrize("wanted", [3.0, 11.0, 20.0])
@pytest.mark.parametrize("dual", [True, False])
def test_the_ridge_meets_an_effective_dimension(wanted, dual):
    found = leverage(Matrix(PHI), Y, effective_dimension=wanted, dual=dual)
    assert found.effective_dimension == pytest.approx(wanted, rel=1e-3)


def test_an_effective_dimension_beyond_the_rank_is_brought_below_it():
    values = np.array([4.0, 2.0, 1.0, 0.0, 0.0])
    ridge = ridge_of(values, None, 50.0)
    assert (values / (values + ridge)).sum() == pytest.approx(0.9 * 3, rel=1e-6)


def test_left_out_losses_are_those_of_refitting_without_the_image():
    found = leverage(Matrix(PHI), Y, lam=1e-2, dual=True)
    for i in (0, 11, 42):
        rest = np.delete(np.arange(N), i)
        moment = PHI[rest].T @ PHI[rest] + found.lam * np.eye(P)
        weights = np.linalg.solve(moment, PHI[rest].T @ Y[rest])
        loss = ((Y[i] - PHI[i] @ weights) ** 2).sum()
        assert found.left_out[i] == pytest.approx(loss, rel=1e-8)


@pytest.mark.parametrize("dual", [True, False])
def test_equal_or_empty_images_give_finite_scores(dual):
    for phi in (np.ones((N, P)), np.zeros((N, P))):
        found = leverage(Matrix(phi), Y, lam=1e-3, dual=dual)
        assert np.isfinite(found.tau).all() and (found.tau >= 0).all()


def test_a_ridge_that_even_float64_cannot_use_is_refused():
    with pytest.raises(UserError, match=r"init\.lam=1e-30: too small"):
        leverage(Matrix(np.ones((N, P))), Y, lam=1e-30, dual=False)
