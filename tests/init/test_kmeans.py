"""k-means and its sensitivities: exact mean, invariance, bound, Lloyd's fixed point."""

import numpy as np
import pytest

from distill_cli.init import kmeans_sensitivity
from distill_cli.init.kmeans import kmeans, medoids, nearest

rng = np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_kmeans_scores_have_the_mean_they_must_have_and_do_not_see_shift_and_scale(k):
    x = rng.normal(size=(200, 6))
    alpha = kmeans_sensitivity.factor(k)

    def scores(points: np.ndarray) -> np.ndarray:
        found = kmeans(points, k, np.random.default_rng(1), iterations=0)
        return kmeans_sensitivity.sensitivity(found, alpha)

    assert scores(x).mean() == pytest.approx(6 * alpha + 4 * k, rel=1e-10)
    np.testing.assert_allclose(scores(3.5 * x + 7), scores(x), rtol=1e-8)


def test_kmeans_scores_bound_the_sensitivity():
    """sup over centres of d^2(x_i, Q) / mean_j d^2(x_j, Q), tried on many Q, is below s_i."""
    x = rng.normal(size=(80, 3))
    found = kmeans(x, 4, np.random.default_rng(1), iterations=20)
    scores = kmeans_sensitivity.sensitivity(found, kmeans_sensitivity.factor(4))
    for _ in range(300):
        centres = x[rng.choice(80, 4)] + rng.normal(size=(4, 3)) * rng.choice([0.1, 1, 30])
        squared = nearest(x, centres).squared
        assert (squared / squared.mean() <= scores).all()


def test_lloyd_lowers_the_cost_and_ends_at_means():
    x = np.concatenate([rng.normal(size=(40, 2)) + offset for offset in (0, 10, 20)])
    seeds = kmeans(x, 3, np.random.default_rng(0), iterations=0)
    found = kmeans(x, 3, np.random.default_rng(0), iterations=50)
    assert found.squared.sum() < seeds.squared.sum()
    for cluster in range(3):
        mean = x[found.assignment == cluster].mean(0)
        np.testing.assert_allclose(found.centres[cluster], mean, atol=1e-9)
    picks = medoids(x, found.centres)
    assert sorted(found.assignment[picks].tolist()) == [0, 1, 2]
    assert sorted((picks // 40).tolist()) == [0, 1, 2]
