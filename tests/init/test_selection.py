"""Selecting initialisers: k-means scores, weighted sums, class balance, copies, fallbacks."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.errors import UserError
from distill_cli.init import rpcholesky
from distill_cli.init.base import Request, initialise, json_record
from distill_cli.init.features import sketch
from distill_cli.init.herding import herd
from distill_cli.init.leverage import Matrix, leverage
from distill_cli.init.selection import draw

SELECTING = [
    "krr_sensitivity", "ridge_leverage", "kmeans_sensitivity", "kmeans_medoid", "herding",
    "rpcholesky", "one_per_cluster",
]  # fmt: skip
SCORED = ["krr_sensitivity", "ridge_leverage", "kmeans_sensitivity", "one_per_cluster"]
rng = np.random.default_rng(0)
LABELS = rng.permutation(np.repeat(np.arange(3), [12, 20, 9])).astype(np.int32)
IMAGES = (rng.normal(size=(41, 4, 4, 1)) + LABELS[:, None, None, None]).astype(np.float32)


def request(ipc: int = 3, seed: int = 0, **changes) -> Request:
    found = Request(IMAGES, LABELS, ipc, 3, seed, convnet(4, 1), 16)
    return dataclasses.replace(found, **changes)


def config(name: str, **options):
    module = importlib.import_module(f"distill_cli.init.{name}")
    return module.Config(**{"features": "pixels", **options})


def test_weighted_sums_are_unbiased_with_replacement():
    """sum u_i f_i over 10000 draws against sum f_i, within 3 standard errors."""
    scores, values = rng.exponential(size=30), rng.normal(size=30) ** 2
    generator = np.random.default_rng(5)
    sums = np.empty(10000)
    for i in range(len(sums)):
        picks, weights, _ = draw(scores, 6, generator, replace=True)
        sums[i] = (weights * values[picks]).sum()
    assert abs(sums.mean() - values.sum()) < 3 * sums.std() / 100


def test_draws_without_replacement_follow_the_scores_and_never_repeat():
    scores = np.array([1.0, 2.0, 4.0, 0.0, 1.0])
    generator = np.random.default_rng(2)
    first = np.zeros(5)
    for _ in range(8000):
        picks, _, uniform = draw(scores, 4, generator)
        assert len(set(picks.tolist())) == 4 and not uniform
        first[picks[0]] += 1
    assert first[3] == 0
    share = scores / 8
    assert (np.abs(first / 8000 - share) <= 4 * np.sqrt(share * (1 - share) / 8000)).all()


@pytest.mark.parametrize("bad", [np.zeros(6), np.array([1, 2, np.nan, 1, 1, 1.0])])
def test_scores_that_say_nothing_give_a_uniform_draw(bad):
    picks, weights, uniform = draw(bad, 6, np.random.default_rng(0))
    assert uniform and sorted(picks.tolist()) == list(range(6))
    np.testing.assert_allclose(weights, 1)


@pytest.mark.parametrize("name", SELECTING)
def test_classes_are_balanced_and_rows_distinct_and_seeded(name):
    found, again = initialise(config(name), request()), initialise(config(name), request())
    assert found.rows is not None and again.rows is not None and found.record is not None
    np.testing.assert_array_equal(found.rows, again.rows)
    np.testing.assert_array_equal(LABELS[found.rows], np.repeat(np.arange(3), 3))
    assert len(set(found.rows.tolist())) == 9
    assert found.labels is None
    text = json.dumps(json_record(found.record), allow_nan=False)
    assert json.loads(text)["distinct_classes"] == 3
    if name in SCORED:
        scores = found.record["scores"]
        assert scores.shape == (41,)
        np.testing.assert_array_equal(found.record["chosen_scores"], scores[found.rows])
        assert found.record["total"] == pytest.approx(scores.sum())


@pytest.mark.parametrize("name", SELECTING)
def test_unbalanced_selections_bring_their_labels(name):
    with pytest.raises(UserError, match=r"init\.balanced=false"):
        initialise(config(name, balanced=False), request())
    found = initialise(config(name, balanced=False), request(takes_labels=True))
    assert found.rows is not None and found.labels is not None
    assert len(set(found.rows.tolist())) == 9
    np.testing.assert_array_equal(found.labels, LABELS[found.rows])
    assert (np.diff(found.labels) >= 0).all()


@pytest.mark.parametrize("name", SELECTING)
def test_equal_images_are_no_trouble(name):
    same = np.ones_like(IMAGES)
    found = initialise(config(name), request(images=same))
    assert np.isfinite(found.images).all()
    assert found.rows is not None and len(set(found.rows.tolist())) == 9
    black = initialise(config(name), request(images=np.zeros_like(IMAGES)))
    assert black.rows is not None and len(set(black.rows.tolist())) == 9


def test_a_recorded_long_array_becomes_quantiles():
    record = json_record({"scores": np.arange(2001.0), "weights": np.ones(3), "lam": np.float64(2)})
    assert record["scores_quantiles"] == [0, 100, 500, 1000, 1500, 1900, 2000]
    assert (record["weights"], record["lam"]) == ([1, 1, 1], 2)
    assert "scores" not in record


def test_leverage_finds_more_of_what_is_distinct_than_uniform_draws():
    """60 Gaussian points, 6 of them copied 50 times: at least 1.5 times the distinct points."""
    points = rng.normal(size=(60, 30))
    owner = np.concatenate([np.arange(60), np.repeat(np.arange(6), 50)])
    phi = points[owner] + 1e-3 * rng.normal(size=(360, 30))
    targets = np.eye(2)[owner % 2] - 0.5
    scores = leverage(Matrix(phi), targets, effective_dimension=25).ridge
    counts = {"leverage": 0, "uniform": 0}
    for seed in range(20):
        for name, weight in (("leverage", scores), ("uniform", np.ones(360))):
            picks, _, _ = draw(weight, 40, np.random.default_rng(seed))
            counts[name] += len(set(owner[picks].tolist()))
    assert counts["leverage"] >= 1.5 * counts["uniform"]


def test_rpcholesky_takes_each_of_the_distinct_points_once():
    points = rng.normal(size=(5, 12))
    phi = np.repeat(points, [40, 1, 1, 1, 1], axis=0)
    picks, residual, uniform = rpcholesky.pivots(phi, 5, np.random.default_rng(0))
    assert {int(phi[pick][0] == points[0][0]) for pick in picks} == {0, 1}
    assert set(picks.tolist()) >= {40, 41, 42, 43} and uniform == 0
    assert residual.max() < 1e-9 * (points**2).sum(1).max()
    _, _, uniform = rpcholesky.pivots(phi, 8, np.random.default_rng(0))
    assert uniform == 3


def test_rpcholesky_residual_is_the_schur_complement():
    phi = rng.normal(size=(20, 40))
    picks, residual, _ = rpcholesky.pivots(phi, 6, np.random.default_rng(1))
    gram = phi @ phi.T
    inner = gram[:, picks] @ np.linalg.solve(gram[np.ix_(picks, picks)], gram[picks])
    np.testing.assert_allclose(residual, np.diag(gram - inner), atol=1e-9)


def test_herding_follows_its_rule():
    phi = rng.normal(size=(15, 8))
    unit = phi / np.linalg.norm(phi, axis=1, keepdims=True)
    chosen: list[int] = []
    for pick in herd(phi, 5):
        towards = (len(chosen) + 1) * unit.mean(0) - unit[chosen].sum(0)
        left = [row for row in range(15) if row not in chosen]
        assert pick == max(left, key=lambda row: unit[row] @ towards)
        chosen.append(int(pick))


def test_the_sketch_keeps_inner_products_on_average():
    phi = rng.normal(size=(2, 300)).astype(np.float32)
    wanted = float(phi[0] @ phi[1])
    found = []
    for seed in range(600):
        one, other = sketch(300, 64, np.random.default_rng(seed))(phi)
        found.append(float(one @ other))
    assert abs(np.mean(found) - wanted) < 4 * np.std(found) / 600**0.5


def test_features_of_the_method_are_used_or_refused():
    with pytest.raises(UserError, match=r"init\.features=method"):
        initialise(config("herding", features="method"), request())
    flat = request(method_features=lambda images: images.reshape(len(images), -1))
    one = initialise(config("herding", features="method"), flat)
    other = initialise(config("herding"), request())
    np.testing.assert_array_equal(one.rows, other.rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("krr_sensitivity", {"lam": 0.1, "effective_dimension": 5.0}, "give one of them"),
        ("ridge_leverage", {"lam": 0.0}, r"init\.lam=0\.0: must be above 0"),
        ("ridge_leverage", {"effective_dimension": 0.5}, r"init\.effective_dimension=0\.5"),
        ("kmeans_medoid", {"iterations": -1}, r"init\.iterations=-1"),
        ("herding", {"dimensions": 0}, r"init\.dimensions=0"),
    ],
)
def test_values_out_of_range_are_refused(name, options, said):
    with pytest.raises(UserError, match=said):
        config(name, **options)


@pytest.mark.parametrize("name", ["krr_sensitivity", "ridge_leverage", "kmeans_sensitivity"])
@pytest.mark.parametrize("balanced", [True, False])
def test_weights_folded_into_the_ridge(name, balanced):
    """mean(u) / u_i in the order of the images; the images themselves are the same either way."""
    plain = initialise(config(name, balanced=balanced), request(takes_labels=True))
    options = config(name, balanced=balanced, weights="ridge")
    found = initialise(options, request(takes_labels=True))
    assert plain.ridge_weights is None and found.ridge_weights is not None
    np.testing.assert_array_equal(found.rows, plain.rows)
    u = found.record["weights"]
    np.testing.assert_allclose(found.ridge_weights * u, u.mean())
    likely = np.argsort(found.record["chosen_scores"][:3])  # of the first class, where balanced
    if balanced:
        assert (np.diff(found.ridge_weights[:3][likely]) >= 0).all()


def test_class_wise_leverage_is_that_of_each_class_alone():
    found = initialise(config("ridge_leverage", class_wise=True, lam=1e-2), request())
    flat = IMAGES.reshape(41, -1).astype(np.float64)
    for label in range(3):
        phi = flat[label == LABELS]
        gram = phi @ phi.T
        hat = np.diag(gram @ np.linalg.inv(gram + 1e-2 * np.trace(gram) * np.eye(len(gram))))
        np.testing.assert_allclose(found.record["scores"][label == LABELS], hat, rtol=1e-6)
        assert found.record["effective_dimension"][label] == pytest.approx(hat.sum())
    other = initialise(config("krr_sensitivity", class_wise=True, lam=1e-2), request())
    np.testing.assert_allclose(other.record["scores"], found.record["scores"])  # no label term


def test_class_wise_dimension_is_met_in_every_class():
    found = initialise(config("ridge_leverage", class_wise=True, effective_dimension=4), request())
    np.testing.assert_allclose(found.record["effective_dimension"], 4, rtol=1e-3)
