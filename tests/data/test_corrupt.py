"""dataset.corrupt: what each corruption does to a training split, and that it does nothing else."""

import dataclasses

import numpy as np
import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse, plain
from distill_cli.data.config import DatasetConfig
from distill_cli.data.corrupt import CORRUPTIONS, corrupt
from distill_cli.errors import UserError
from distill_cli.naming import digest

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (90, 4, 4, 1)).astype(np.uint8)
LABELS = rng.permutation(np.repeat(np.arange(3), 30)).astype(np.int32)


def config(kind: str, **options) -> DatasetConfig:
    small = {"corrupt_distinct": 20, "corrupt_copied": 4, "corrupt_copies": 5}
    given = {f"corrupt_{key}": value for key, value in options.items()}
    return DatasetConfig(corrupt=kind, **{**small, **given})


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_seeded_and_pure(kind):
    before = IMAGES.copy(), LABELS.copy()
    images, labels = corrupt(config(kind), IMAGES, LABELS)
    again = corrupt(config(kind), IMAGES, LABELS)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(labels, again[1])
    np.testing.assert_array_equal(IMAGES, before[0])
    np.testing.assert_array_equal(LABELS, before[1])
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert len(images) == len(labels)
    assert set(labels.tolist()) == {0, 1, 2}
    if kind != "none":
        other = corrupt(config(kind, seed=1), IMAGES, LABELS)
        assert not np.array_equal(labels, other[1]) or not np.array_equal(images, other[0])


def test_none_is_the_same_arrays():
    images, labels = corrupt(config("none"), IMAGES, LABELS)
    assert images is IMAGES and labels is LABELS


def test_redundant_repeats_a_few_images_with_a_little_noise():
    images, labels = corrupt(config("redundant", noise=0.01), IMAGES, LABELS)
    assert len(images) == 20 + 4 * 5
    assert np.ptp(np.bincount(labels[:20])) <= 1
    rows = [int(np.abs(IMAGES.astype(int) - image).sum((1, 2, 3)).argmin()) for image in images]
    assert len(set(rows[:20])) == 20
    assert len(set(rows[20:])) == 4 and set(rows[20:]) < set(rows[:20])
    np.testing.assert_array_equal(labels, LABELS[rows])
    difference = images[20:].astype(int) - IMAGES[rows[20:]].astype(int)
    assert 1 < difference.std() < 4
    exact, _ = corrupt(config("redundant", noise=0.0), IMAGES, LABELS)
    assert len(np.unique(exact.reshape(len(exact), -1), axis=0)) == 20


def test_floats_keep_their_range_and_type():
    floats = (IMAGES / 255).astype(np.float32)
    images, _ = corrupt(config("redundant", noise=0.5), floats, LABELS)
    assert images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= floats.max()


def test_long_tail_falls_geometrically():
    images, labels = corrupt(config("long_tail", imbalance=9), IMAGES, LABELS)
    assert np.bincount(labels).tolist() == [30, 10, 3]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 43


def test_label_noise_changes_the_share_it_says_and_no_image():
    images, labels = corrupt(config("label_noise", share=0.3), IMAGES, LABELS)
    assert images is IMAGES
    assert int((labels != LABELS).sum()) == 27
    assert labels.min() >= 0 and labels.max() <= 2


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("blur", {}, r"dataset\.corrupt=blur"),
        ("redundant", {"distinct": 91}, r"corrupt_distinct=91: .* 90"),
        ("redundant", {"distinct": 2}, r"corrupt_distinct=2: must lie between 3"),
        ("redundant", {"copied": 21}, r"corrupt_copied=21"),
        ("redundant", {"copies": -1}, r"corrupt_copies"),
        ("long_tail", {"imbalance": 0.5}, r"corrupt_imbalance=0\.5: must be at least 1"),
        ("label_noise", {"share": 1.5}, r"corrupt_share=1\.5: must lie in \[0, 1\]"),
    ],
)
def test_wrong_values_are_one_clear_line(kind, options, said):
    with pytest.raises(UserError, match=said):
        corrupt(config(kind, **options), IMAGES, LABELS)


def test_it_is_an_option_of_every_dataset_and_counts_in_the_digest():
    base = plain(compose("config", ["dataset=digits"]))
    noisy = compose("config", ["dataset=digits", "dataset.corrupt=label_noise"])
    assert parse(noisy).dataset.corrupt == "label_noise"
    assert digest(plain(noisy)) != digest(base)
    unused = plain(compose("config", ["dataset=digits", "dataset.corrupt_share=0.5"]))
    assert digest(unused) == digest(base)


def test_only_the_training_split_of_a_problem_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path))
    from distill_cli.tasks.problem import corrupted, load_problem

    base = load_problem(parse(compose("config", [])))
    run = parse(compose("config", ["dataset.corrupt=label_noise"]))
    found = corrupted(run, base.dataset)
    assert found.test is base.dataset.test
    assert found.fingerprint != base.dataset.fingerprint
    wrong = (found.train.labels != base.dataset.train.labels).mean()
    assert wrong == pytest.approx(0.2, abs=0.001)
    assert dataclasses.replace(base, dataset=found).dataset.classes == 10


@pytest.mark.parametrize("keep", ["smallest", "largest"])
def test_pruning_keeps_its_share_of_each_class_by_loss(keep, monkeypatch, tmp_path):
    """Of a split with wrong labels, those with small losses are right more often."""
    from distill_cli.tasks.problem import load_problem

    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path))

    options = ["dataset.corrupt=label_noise", f"prune.keep={keep}"]
    options += ["architecture.width=16", "architecture.depth=1", "dataset.limit_train=400"]
    clean = load_problem(parse(compose("config", [options[-1]])))
    found = load_problem(parse(compose("config", options)))
    labels = found.dataset.train.labels
    held, kept = np.bincount(labels), np.bincount(labels[found.train_rows])
    np.testing.assert_array_equal(kept, np.round(held / 2))
    wrong = (labels != clean.dataset.train.labels)[found.train_rows].mean()
    np.testing.assert_array_equal(np.bincount(labels[found.unpruned.train_rows]), held)
    assert found.unpruned.train_images is found.train_images
    assert wrong < 0.1 if keep == "smallest" else wrong > 0.3
