"""Attacks against scikit-learn, closed forms and cases whose answer is known."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from distill_cli.apply import membership
from distill_cli.apply.membership import Outputs
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError

RNG = np.random.default_rng(0)


def outputs(n: int = 60, gap: float = 0.0) -> Outputs:
    """Logits of n members and n others; members know their class better by `gap`."""
    labels = RNG.integers(0, 4, 2 * n)
    logits = RNG.normal(size=(2 * n, 4))
    logits[np.arange(n), labels[:n]] += gap
    return Outputs(logits, labels, np.repeat([True, False], n))


def test_auc_is_scikit_learns_with_ties():
    member = RNG.random(80) < 0.4
    score = np.round(RNG.normal(size=80) + member, 1)
    assert membership.auc(score, member) == pytest.approx(roc_auc_score(member, score))
    assert membership.auc(np.ones(80), member) == pytest.approx(0.5)


def test_bootstrap_interval_has_the_width_of_the_known_error():
    """Without a difference the variance of the AUC is (n + m + 1) / (12 n m) (Mann & Whitney)."""
    member = np.repeat([True, False], 300)
    score = RNG.normal(size=600)
    low, high = membership.bootstrap(score, member, 2000, 0.95, 0)
    assert low < membership.auc(score, member) < high
    expected = 2 * 1.96 * np.sqrt(601 / (12 * 300 * 300))
    assert high - low == pytest.approx(expected, rel=0.1)
    assert membership.bootstrap(score, member, 50, 0.9, 1) == membership.bootstrap(
        score, member, 50, 0.9, 1
    )


def test_scores_without_training_are_their_formulas():
    seen = outputs()
    p = np.exp(seen.logits) / np.exp(seen.logits).sum(1, keepdims=True)
    rows = np.arange(len(p))

    def score(attack):
        return membership.scores(attack, seen, 0, 3, "small")

    np.testing.assert_allclose(score("entropy"), -entropy(p, axis=1))
    np.testing.assert_allclose(score("confidence"), p[rows, seen.labels])
    np.testing.assert_array_equal(score("correctness"), seen.logits.argmax(1) == seen.labels)
    target = np.eye(4)[seen.labels] - 0.25
    np.testing.assert_allclose(score("loss"), -((seen.logits - target) ** 2).sum(1))
    for i in range(5):
        y = seen.labels[i]
        other = sum(p[i, c] * np.log(1 - p[i, c]) for c in range(4) if c != y)
        expected = (1 - p[i, y]) * np.log(p[i, y]) + other
        assert score("modified_entropy")[i] == pytest.approx(expected)


def test_sure_outputs_give_finite_scores():
    seen = Outputs(np.array([[900.0, 0], [0, 900]]), np.array([0, 0]), np.array([True, False]))
    for attack in ("entropy", "modified_entropy", "confidence", "loss"):
        assert np.isfinite(membership.scores(attack, seen, 0, 2, "small")).all()


@pytest.mark.parametrize("attack", membership.TRAINED)
def test_trained_attacks_find_what_is_there_and_nothing_where_nothing_is(attack):
    """Noise must score about 0.5: in-sample a forest would reach 1."""
    found = {}
    for gap in (0.0, 6.0):
        seen = outputs(150, gap)
        score = membership.scores(attack, seen, 0, 3, "small")
        found[gap] = membership.auc(score, seen.member)
    assert abs(found[0.0] - 0.5) < 0.12
    assert found[6.0] > 0.8


def test_the_full_grid_is_the_published_one():
    _, forest = membership._model("forest", 0)
    assert sorted(map(str, forest["max_depth"])) == ["10", "20", "5", "None"]
    _, logistic = membership._model("logistic", 0)
    (values,) = logistic.values()
    np.testing.assert_allclose(values, np.logspace(-4, 2, 10))
    seen = outputs(40, 3.0)
    score = membership.scores("knn", seen, 0, 2, "full")
    assert membership.auc(score, seen.member) > 0.7


def test_the_starting_set_is_refused():
    start = Coreset(np.zeros((2, 4, 4, 1)), np.eye(2) - 0.5, np.zeros(()))
    with pytest.raises(UserError, match="the one it started from"):
        membership.require_optimised(start, start)
    membership.require_optimised(start._replace(images=start.images + 0.1), start)
    membership.require_optimised(start._replace(labels=start.labels * 2), start)
