"""Which training rows validate a coreset."""

import numpy as np
import pytest

from distill_cli.data.validation import official_validation_indices, validation_indices
from distill_cli.errors import UserError


@pytest.mark.parametrize(
    ("classes", "available", "expected"),
    [(10, 600, 500), (10, 140, 140), (100, 500, 100), (2, 3000, 100), (3, 40, 40)],
)
def test_rule_of_the_paper_capped_by_the_class(classes: int, available: int, expected: int):
    labels = np.repeat(np.arange(classes), available)
    train, valid = validation_indices(labels, classes)
    assert np.array_equal(train, np.arange(len(labels)))
    assert np.array_equal(labels[valid], np.repeat(np.arange(classes), expected))
    assert len(np.unique(valid)) < len(valid)  # with replacement


def test_draws_follow_numpys_seed_class_by_class():
    labels = np.random.RandomState(1).randint(0, 3, size=200)
    _, valid = validation_indices(labels, 3, per_class=7, seed=5)
    np.random.seed(5)  # noqa: NPY002
    expected = [np.random.choice(np.where(labels == c)[0], 7) for c in range(3)]  # noqa: NPY002
    assert np.array_equal(valid, np.concatenate(expected))
    _, other = validation_indices(labels, 3, per_class=7, seed=6)
    assert not np.array_equal(valid, other)


def test_disjoint_split_is_a_partition():
    labels = np.random.RandomState(1).randint(0, 4, size=300)
    train, valid = validation_indices(labels, 4, per_class=9, seed=0, disjoint=True)
    assert sorted([*train, *valid]) == list(range(300))
    assert np.bincount(labels[valid]).tolist() == [9] * 4
    assert (np.diff(train) > 0).all()


def test_disjoint_rule_leaves_four_fifths_to_training():
    labels = np.repeat(np.arange(10), [30] * 9 + [3])
    train, valid = validation_indices(labels, 10, disjoint=True)
    assert np.bincount(labels[valid]).tolist() == [6] * 9 + [1]
    assert len(train) + len(valid) == len(labels)


@pytest.mark.parametrize(
    ("per_class", "disjoint"), [(0, False), (-1, True), (2, False), (5, True), (None, True)]
)
def test_impossible_requests_are_refused(per_class: int | None, disjoint: bool):
    with pytest.raises(UserError, match="per_class"):
        validation_indices(np.array([0, 0, 0, 0, 0, 1]), 2, per_class, disjoint=disjoint)


def test_official_split_is_one_shuffled_batch():
    rows = official_validation_indices(5000, seed=3)
    assert len(set(rows.tolist())) == 1000
    assert rows.max() < 5000
    assert sorted(official_validation_indices(40)) == list(range(40))
