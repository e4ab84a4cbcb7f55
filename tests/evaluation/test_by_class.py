"""Class accuracies, balanced accuracy and confusion matrix, against counts made by hand, and of
every protocol against the predictions of its own networks."""

import json
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import fully_connected
from distill_cli.core.files import write_json
from distill_cli.core.types import Coreset, Metric
from distill_cli.evaluation import (
    by_class,
    dc,
    dsa,
    finite,
    frepo,
    held_out,
    kip_finite,
    krr_nngp,
    krr_ntk,
)
from distill_cli.evaluation.base import Problem, evaluate
from distill_cli.evaluation.by_class import class_fields, confusion_counts, share_correct
from distill_cli.report.class_results import class_results
from distill_cli.report.damage import damage
from distill_cli.tasks.measure import row_of

LABELS = np.array([0, 0, 0, 0, 1, 1, 3])
GUESSES = np.array([0, 0, 1, 3, 1, 0, 3])
NETWORK = {"networks": 2, "architectures": ("mlp", "convnet"), "width": 8}
WIDE = {"networks": 2, "width": 8, "max_steps": 10, "validate_every": 5}
CONFIGS = {
    "krr_nngp": krr_nngp.Config(), "krr_ntk": krr_ntk.Config(ridge=1e-2),
    "finite": finite.Config(**WIDE, learning_rate=0.1, label_scale=1.0, weight_decay=0.0),
    "dc": dc.Config(**NETWORK, epochs=3), "dsa": dsa.Config(**NETWORK, epochs=3),
    "frepo": frepo.Config(**NETWORK, steps=5),
    "kip_finite": kip_finite.Config(**NETWORK, steps=5, kernel_images=6),
    "held_out": held_out.Config("dc", {"networks": 2, "epochs": 3, "width": 8}),
}  # fmt: skip


def test_one_network_by_hand():
    found = confusion_counts([GUESSES], LABELS, 4)
    assert found.tolist() == [[2, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    fields = class_fields(found, 1, ("ant", "bee", "cow"))
    assert fields["per_class"] == [
        {"class": "ant", "images": 4, "accuracy": 0.5},
        {"class": "bee", "images": 2, "accuracy": 0.5},
        {"class": "cow", "images": 0, "accuracy": None},  # not in the test set: not in the mean
        {"class": "3", "images": 1, "accuracy": 1.0},
    ]
    assert fields["balanced_accuracy"] == pytest.approx(2 / 3)
    assert fields["confusion"] == {"matrix": found.tolist()}
    assert share_correct(GUESSES, LABELS) == 4 / 7


def test_several_networks_are_summed():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 200)
    guesses = [np.where(rng.random(200) < 0.6, labels, rng.integers(0, 5, 200)) for _ in range(3)]
    found = confusion_counts(guesses, labels, 5)
    for a in range(5):
        for b in range(5):
            assert found[a, b] == sum(int(((labels == a) & (g == b)).sum()) for g in guesses)
    fields = class_fields(found, 3)
    recalls = [np.mean([(g[labels == c] == c).mean() for g in guesses]) for c in range(5)]
    np.testing.assert_allclose([r["accuracy"] for r in fields["per_class"]], recalls, rtol=1e-12)
    assert [r["images"] for r in fields["per_class"]] == np.bincount(labels).tolist()
    assert fields["balanced_accuracy"] == pytest.approx(np.mean(recalls), rel=1e-12)


def test_many_classes_keep_the_largest_confusions(monkeypatch):
    classes = by_class.MATRIX_CLASSES + 5
    rng = np.random.default_rng(2)
    labels = rng.integers(0, classes, 3000)
    guesses = np.where(rng.random(3000) < 0.5, labels, rng.integers(0, classes, 3000))
    counts = confusion_counts([guesses], labels, classes)
    monkeypatch.setattr(by_class, "LARGEST", 40)
    kept = class_fields(counts, 1)["confusion"]["largest"]
    others = counts - np.diag(counts.diagonal())
    assert len(kept) == 40 and all(a != b and others[a, b] == n for a, b, n in kept)
    sizes = [n for *_, n in kept]
    assert sizes == sorted(others.ravel().tolist(), reverse=True)[:40]
    assert len({(a, b) for a, b, _ in kept}) == 40


def test_all_confusions_of_many_classes_where_they_are_few():
    labels = np.repeat(np.arange(30), 4)
    guesses = labels.copy()
    guesses[[0, 1, 9]] = [7, 7, 1]
    fields = class_fields(confusion_counts([guesses], labels, 30), 1)
    assert fields["confusion"] == {"largest": [[0, 7, 2], [2, 1, 1]]}
    row = {"protocol": "p", "accuracy": share_correct(guesses, labels), "images": 120, "n": 1}
    assert damage(row | fields) is None
    seen = class_results(row | fields, 120)
    assert seen is not None and seen.whole
    matrix = np.eye(30)
    matrix[0, [0, 7]], matrix[2, [1, 2]] = 0.5, [0.25, 0.75]
    np.testing.assert_array_equal(seen.shares, matrix)


def test_result_json_of_200_classes_stays_small(tmp_path):
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(200), 50)
    guesses = [rng.integers(0, 200, len(labels)) for _ in range(20)]  # nearly every pair occurs
    names = [f"n{i:08d}" for i in range(200)]
    fields = class_fields(confusion_counts(guesses, labels, 200), 20, names)
    write_json(tmp_path / "a.json", fields)
    assert len(fields["confusion"]["largest"]) == by_class.LARGEST
    assert (tmp_path / "a.json").stat().st_size < 32_000
    assert json.loads((tmp_path / "a.json").read_text()) == fields


def images_and_labels(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = 0.7 * labels[:, None, None, None] + rng.normal(size=(n, 8, 8, 1))
    return images.astype(np.float32), labels.astype(np.int32)


def problem(missing: int | None) -> Problem:
    test, valid = images_and_labels(50, 3), images_and_labels(31, 2)
    if missing is not None:
        kept = test[1] != missing
        test = test[0][kept], test[1][kept]
    return Problem(fully_connected(1, 1), "blobs", 2, valid, test, 1e-3, 0)


@pytest.mark.parametrize("missing", [None, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_protocol_counts_what_its_accuracy_counts(name, missing):
    images, labels = images_and_labels(6, 1)
    coreset = Coreset(images, np.eye(3)[labels] - 1 / 3, np.zeros((), np.float64))
    given = problem(missing)
    metric = evaluate(name, CONFIGS[name], coreset, given)
    truth = (given.valid if name == "held_out" else given.test)[1]
    assert metric.confusion is not None
    np.testing.assert_array_equal(
        metric.confusion.sum(1), metric.n * np.bincount(truth, minlength=3)
    )
    right = Fraction(int(np.trace(metric.confusion)), metric.n * metric.images)
    if name.startswith("krr"):  # its accuracy is a mean of zeros and ones in float32
        hits = np.arange(metric.images) < np.trace(metric.confusion)
        assert metric.accuracy == float(jnp.mean(jnp.asarray(hits, jnp.float32)))
    else:
        assert Fraction(metric.accuracy).limit_denominator(10**6) == right
        rows = metric.detail.get("networks") or next(iter(metric.detail["architectures"].values()))  # type: ignore
        each = [r["accuracy"] for r in rows] if isinstance(rows, list) else rows["accuracies"]
        assert round(sum(each) * metric.images) == np.trace(metric.confusion)
    assert damage(json.loads(json.dumps(row_of(metric, {}, ("a", "b", "c"))))) is None


def test_predictions_of_exact_regression_by_numpy():
    from distill_cli.kernels.exact import gram

    images, labels = images_and_labels(6, 1)
    y = np.eye(3)[labels] - 1 / 3
    given = problem(None)
    coreset = Coreset(images, y, np.zeros((), np.float64))
    metric = krr_ntk.evaluate(krr_ntk.Config(ridge=1e-2), coreset, given)
    k_ss = gram(given.architecture, images, get="ntk", dtype=np.float64)["ntk"]
    k_ts = gram(given.architecture, given.test[0], images, get="ntk", dtype=np.float64)["ntk"]
    lam = 1e-2 * np.trace(k_ss) / 6
    guesses = (k_ts @ np.linalg.solve(k_ss + lam * np.eye(6), y)).argmax(1)
    wanted = np.zeros((3, 3), int)
    for truth, guess in zip(given.test[1], guesses, strict=True):
        wanted[truth, guess] += 1
    assert 0 < wanted.trace() < len(guesses)
    np.testing.assert_array_equal(metric.confusion, wanted)


def test_a_metric_without_a_matrix_has_no_class_fields():
    row = row_of(Metric("krr_nngp", 0.5, None, 1, 60, 0.0), {})
    assert not {"per_class", "balanced_accuracy", "confusion"} & row.keys()
