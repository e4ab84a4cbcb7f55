"""Exact shares of kernel regression against refitting, closed forms and invariances."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from distill_cli.apply import explain
from distill_cli.errors import UserError

RNG = np.random.default_rng(0)


def problem(n: int = 7, m: int = 12, classes: int = 3, p: int = 20):
    """A kernel of random features: (k_ss, k_xs, y)."""
    s, x = RNG.normal(size=(n, p)), RNG.normal(size=(m, p))
    return s @ s.T, x @ s.T, RNG.normal(size=(n, classes))


def test_contributions_add_up_to_the_output_of_the_regression():
    k_ss, k_xs, y = problem()
    solution = explain.solve(k_ss, y, 5e-3)
    r = k_ss + 5e-3 * np.trace(k_ss) / 7 * np.eye(7)
    outputs = k_xs @ np.linalg.solve(r, y)
    alpha = explain.weights(k_xs, solution)
    for c in range(3):
        parts = explain.contributions(alpha, solution, np.full(12, c))
        np.testing.assert_allclose(parts.sum(1), outputs[:, c], rtol=1e-10, atol=1e-12)


def test_leave_one_out_effect_is_that_of_refitting_without_the_element():
    k_ss, k_xs, y = problem()
    solution = explain.solve(k_ss, y, 1e-2)
    r = k_ss + 1e-2 * np.trace(k_ss) / 7 * np.eye(7)
    whole = k_xs @ np.linalg.solve(r, y)
    classes = RNG.integers(0, 3, 12)
    effects = explain.leave_one_out_effects(explain.weights(k_xs, solution), solution, classes)
    for i in range(7):
        left = np.delete(np.arange(7), i)
        without = k_xs[:, left] @ np.linalg.solve(r[np.ix_(left, left)], y[left])
        expected = (whole - without)[np.arange(12), classes]
        np.testing.assert_allclose(effects[:, i], expected, rtol=1e-8, atol=1e-10)


def test_on_the_coreset_itself_without_ridge_every_element_explains_itself():
    k_ss, _, y = problem()
    alpha = explain.weights(k_ss, explain.solve(k_ss, y, 1e-12))
    np.testing.assert_allclose(alpha, np.eye(7), atol=1e-6)


def test_a_copy_takes_half_of_the_weight():
    k_ss, k_xs, y = problem()
    reg = 1e-9
    alone = explain.weights(k_xs, explain.solve(k_ss, y, reg))
    twice = [*range(7), 0]
    both = explain.weights(k_xs[:, twice], explain.solve(k_ss[np.ix_(twice, twice)], y[twice], reg))
    np.testing.assert_allclose(both[:, 0], both[:, 7], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both[:, 0] + both[:, 7], alone[:, 0], rtol=1e-4, atol=1e-6)


def test_a_permuted_coreset_permutes_the_ranking():
    k_ss, k_xs, y = problem()
    order = RNG.permutation(7)
    classes = np.zeros(12, int)

    def ranking(rows):
        solution = explain.solve(k_ss[np.ix_(rows, rows)], y[rows], 1e-3)
        alpha = explain.weights(k_xs[:, rows], solution)
        return explain.ranks(explain.contributions(alpha, solution, classes))

    np.testing.assert_array_equal(ranking(order), ranking(np.arange(7))[:, order])


def test_ranks_start_at_one_for_the_largest():
    assert explain.ranks(np.array([[0.1, 0.9, -2.0]])).tolist() == [[2, 1, 3]]


def test_spearman_is_scipys_mean_over_rows_and_leaves_out_ties():
    a, b = RNG.normal(size=(5, 9)), RNG.normal(size=(5, 9))
    expected = np.mean([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert explain.spearman(a, b) == pytest.approx(expected)
    a[0] = 1.0
    expected = np.mean([spearmanr(x, y).statistic for x, y in zip(a[1:], b[1:], strict=True)])
    assert explain.spearman(a, b) == pytest.approx(expected)
    assert explain.spearman(np.ones((2, 3)), np.ones((2, 3))) is None


def test_nearest_by_kernel_does_not_prefer_long_vectors():
    s, t = RNG.normal(size=(3, 8)), RNG.normal(size=(30, 8))
    t *= RNG.uniform(0.1, 10, size=(30, 1))
    rows, cosines = explain.nearest_by_kernel(t @ s.T, (t**2).sum(1), (s**2).sum(1), 4)
    unit = (t / np.linalg.norm(t, axis=1)[:, None]) @ (s / np.linalg.norm(s, axis=1)[:, None]).T
    np.testing.assert_array_equal(rows, np.argsort(-unit, axis=0)[:4].T)
    np.testing.assert_allclose(cosines, np.sort(-unit, axis=0)[:4].T * -1)


def test_summary_counts_by_hand():
    to_predicted = np.array([[3.0, -1], [2, 1], [0, 5]])
    found = explain.summarise(
        to_predicted, np.array([True, False, True]), np.array([[1.0, 0], [0, 1], [0, 1], [0, 2]])
    )
    np.testing.assert_allclose(found.mean_absolute, [5 / 3, 7 / 3])
    np.testing.assert_allclose(found.top_share, [2 / 3, 1 / 3])
    np.testing.assert_allclose(found.top_correct, [0.5, 1])
    np.testing.assert_allclose(found.served, [0.25, 0.75])


def test_a_singular_kernel_without_ridge_is_refused():
    with pytest.raises(UserError, match=r"apply\.ridge=0\.0"):
        explain.solve(np.zeros((3, 3)), np.ones((3, 2)), 0.0)
