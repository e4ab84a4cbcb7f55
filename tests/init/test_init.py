"""Initialisers against their formulas, and the contract that each of them keeps."""

import dataclasses
import importlib

import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.config import group_choices
from distill_cli.errors import UserError
from distill_cli.init import mmd, var
from distill_cli.init.base import Request, initialise

rng = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), [6, 9, 7]).astype(np.int32)
IMAGES = (rng.normal(size=(22, 8, 8, 1)) + LABELS[:, None, None, None]).astype(np.float32)


def request(ipc: int = 2, seed: int = 0) -> Request:
    return Request(IMAGES, LABELS, ipc, 3, seed, convnet(4, 2), 16)


def config(name: str, **options):
    return importlib.import_module(f"distill_cli.init.{name}").Config(**options)


CHOOSING = [name for name in group_choices("init") if name not in ("full", "coreset")]


def test_the_whole_split_comes_sorted_by_class_and_only_for_method_full():
    whole = dataclasses.replace(request(ipc=0), takes_labels=True)
    found = initialise(config("full"), whole)
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(found.images, IMAGES[order])
    np.testing.assert_array_equal(found.labels, LABELS[order])
    with pytest.raises(UserError, match="init=full: belongs to method=full"):
        initialise(config("full"), request(ipc=2))


@pytest.mark.parametrize("name", CHOOSING)
def test_contract(name):
    """Class-major, right shapes, deterministic in the seed, real images where rows are given."""
    found = initialise(config(name), request())
    again = initialise(config(name), request())
    assert found.images.shape == (6, 8, 8, 1)
    assert found.images.dtype == np.float32
    np.testing.assert_array_equal(found.images, again.images)
    if found.rows is not None:
        np.testing.assert_array_equal(found.images, IMAGES[found.rows])
        np.testing.assert_array_equal(LABELS[found.rows], np.repeat(np.arange(3), 2))
        assert len(set(found.rows.tolist())) == 6
    if name in ("random", "noise"):
        other = initialise(config(name), request(seed=1))
        assert not np.array_equal(found.images, other.images)


@pytest.mark.parametrize("name", CHOOSING)
def test_a_whole_class_can_be_taken(name):
    found = initialise(config(name), request(ipc=6))
    if found.rows is not None:
        assert set(found.rows[:6].tolist()) == set(range(6))


def test_herding_is_the_greedy_minimiser_of_mmd():
    features = rng.normal(size=(12, 30))
    gram = features @ features.T
    picks = mmd.herd(gram, 4)

    def discrepancy(rows: list[int]) -> float:
        return float(((features[rows].mean(0) - features.mean(0)) ** 2).sum())

    chosen: list[int] = []
    for pick in picks:
        left = [row for row in range(12) if row not in chosen]
        best = min(left, key=lambda row: discrepancy([*chosen, row]))
        assert pick == best
        chosen.append(int(pick))


def test_variance_reduction_follows_its_score_and_deflates():
    features = rng.normal(size=(10, 30))
    gram = features @ features.T
    left = gram.copy()
    chosen: list[int] = []
    for pick in var.reduce_variance(gram, 3):
        rows = [row for row in range(10) if row not in chosen]
        assert pick == max(rows, key=lambda j: left[j] @ left[j] / left[j, j] - left[j, j])
        chosen.append(pick)
        left = left - np.outer(left[:, pick], left[pick]) / left[pick, pick]
        assert abs(left[pick]).max() < 1e-8


def test_variance_reduction_survives_duplicates():
    row = rng.normal(size=(1, 5))
    features = np.concatenate([np.repeat(row, 4, 0), rng.normal(size=(2, 5))])
    picks = var.reduce_variance(features @ features.T, 5)
    assert len(set(picks.tolist())) == 5
    assert {4, 5} <= set(picks[:3].tolist())


def test_noise_is_standard_normal():
    found = initialise(config("noise"), request(ipc=200))
    assert found.rows is None
    assert abs(found.images.mean()) < 0.02
    assert found.images.std() == pytest.approx(1, abs=0.02)


def test_candidates_below_ipc_are_refused():
    with pytest.raises(UserError, match=r"init\.candidates=1: must be at least 2"):
        initialise(config("mmd", candidates=1), request())
