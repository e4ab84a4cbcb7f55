"""Class orders, labels of a part as labels of the whole, forgetting."""

import numpy as np
import pytest

from distill_cli.apply import continual
from distill_cli.core.types import Coreset, one_hot_centred
from distill_cli.errors import UserError

# The first classes of the published orders of CIFAR-100 (five seeds of NumPy's legacy generator).
PUBLISHED = {
    0: [26, 86, 2, 55, 75, 93],
    1: [80, 84, 33, 81, 93, 17],
    2: [83, 30, 56, 24, 16, 23],
    3: [93, 67, 6, 64, 96, 83],
    4: [20, 10, 96, 16, 63, 24],
}


@pytest.mark.parametrize(("seed", "first"), PUBLISHED.items())
def test_class_orders_are_the_published_ones(seed, first):
    order = continual.class_order(seed, 100)
    assert order[:6] == first
    assert sorted(order) == list(range(100))


@pytest.mark.parametrize(("steps", "size"), [(5, 20), (10, 10)])
def test_steps_are_disjoint_and_complete(steps, size):
    groups = continual.class_steps(continual.class_order(0, 100), steps)
    assert [len(group) for group in groups] == [size] * steps
    assert sorted(c for group in groups for c in group) == list(range(100))
    assert set(groups[0]) == set(continual.class_order(0, 100)[:size])


@pytest.mark.parametrize("steps", [3, 10])
def test_steps_that_do_not_divide_the_classes_are_refused(steps):
    with pytest.raises(UserError, match=f"apply.increments={steps}: 10 classes"):
        continual.class_steps(list(range(10)), steps)


def test_fixed_labels_of_a_part_become_centred_labels_of_all_classes():
    own = [2, 5, 9]
    narrow = np.asarray(one_hot_centred(np.array([0, 1, 2, 1]), 3))
    wide = continual.widened(narrow, own, 10)
    expected = np.asarray(one_hot_centred(np.array([2, 5, 9, 5]), 10))
    np.testing.assert_allclose(wide, expected, atol=1e-7)


def test_learned_labels_keep_their_differences():
    narrow = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    wide = continual.widened(narrow, [0, 1, 4], 6)
    np.testing.assert_allclose(wide[:, [0, 1, 4]] - wide[:, [0]], narrow - narrow[:, :1], atol=1e-6)


def test_the_union_keeps_the_order_of_the_steps():
    parts = [Coreset(np.full((n, 2, 2, 1), n), np.full((n, 3), n), np.ones(())) for n in (2, 3)]
    joined = continual.union(parts)
    assert joined.images[:, 0, 0, 0].tolist() == [2, 2, 3, 3, 3]
    assert float(joined.log_temperature) == 0


def test_group_accuracies_by_hand():
    labels = np.array([0, 0, 1, 2, 3])
    predicted = np.array([0, 1, 1, 3, 3])
    assert continual.group_accuracies(predicted, labels, [[0, 1], [2, 3]]) == [2 / 3, 0.5]


def test_forgetting_by_hand():
    matrix = [[0.9], [0.95, 0.8], [0.7, 0.85, 1.0]]
    assert continual.forgetting(matrix) == pytest.approx(((0.95 - 0.7) + (0.8 - 0.85)) / 2)
    assert continual.forgetting([[0.5]]) is None
