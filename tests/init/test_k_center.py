"""init=k_center: the greedy rule by brute force, its guarantee, duplicates."""

from itertools import combinations

import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.init.base import Request, initialise
from distill_cli.init.k_center import Config, farthest_first

rng = np.random.default_rng(0)
LABELS = np.repeat(np.arange(2), [7, 9]).astype(np.int32)
IMAGES = rng.normal(size=(16, 8, 8, 1)).astype(np.float32)


def request(ipc: int, seed: int = 0) -> Request:
    return Request(IMAGES, LABELS, ipc, 2, seed, convnet(4, 2), 16)


def radius(phi: np.ndarray, picks) -> float:
    """Largest distance of any row to its nearest pick."""
    return float(np.linalg.norm(phi[:, None] - phi[None, list(picks)], axis=2).min(1).max())


def test_every_pick_is_the_farthest_from_those_before():
    phi = rng.normal(size=(30, 5))
    picks = farthest_first(phi, 3, 6)
    assert picks[0] == 3
    for size in range(1, 6):
        distance = np.linalg.norm(phi[:, None] - phi[None, picks[:size]], axis=2).min(1)
        assert picks[size] == distance.argmax()


@pytest.mark.parametrize("first", range(4))
def test_within_twice_the_best_radius(first):
    phi = rng.normal(size=(11, 2))
    best = min(radius(phi, some) for some in combinations(range(11), 3))
    assert radius(phi, farthest_first(phi, first, 3)) <= 2 * best + 1e-9


def test_duplicates_come_last_and_none_twice():
    phi = np.concatenate([np.zeros((4, 3)), np.eye(3)]).astype(np.float32)
    picks = farthest_first(phi, 0, 7)
    assert sorted(picks.tolist()) == list(range(7))
    assert set(picks[1:4].tolist()) == {4, 5, 6}
    assert len(set(farthest_first(np.ones((5, 2), np.float32), 2, 5).tolist())) == 5


def test_pixels_and_the_first_image():
    found = initialise(Config(features="pixels", first="mean"), request(3))
    assert found.rows is not None
    for label in range(2):
        rows = np.flatnonzero(label == LABELS)
        phi = IMAGES[rows].reshape(len(rows), -1).astype(np.float64)
        start = int(np.linalg.norm(phi - phi.mean(0), axis=1).argmin())
        expected = rows[farthest_first(phi, start, 3)]
        chosen = found.rows[3 * label : 3 * label + 3]
        assert set(chosen.tolist()) == set(expected.tolist())


def test_a_random_first_image_depends_on_the_seed():
    found = [initialise(Config(features="pixels"), request(1, seed)).rows for seed in range(6)]
    assert len({tuple(rows.tolist()) for rows in found if rows is not None}) > 1
