"""Selecting initialisers: k-means scores, weighted sums, class balance, copies, fallbacks."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.errors import UserError
from distill_cli.init import kmeans_sensitivity, rpcholesky
from distill_cli.init.base import Request, initialise, json_record
from distill_cli.init.features import sketch
from distill_cli.init.herding import herd
from distill_cli.init.kmeans import kmeans, medoids, nearest
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


def test_the_methods_features_are_those_of_rfads_first_step():
    import jax

    from distill_cli.cli.compose import compose
    from distill_cli.config import parse
    from distill_cli.core.keys import named_key, step_key
    from distill_cli.init.features import step_zero_features
    from distill_cli.kernels.random_features import RandomFeatureKernel

    run = parse(compose("config", ["method=rfad", "kernel.networks=2", "seed=4"]))
    features = step_zero_features(run, convnet(4, 1), (4, 4, 1), 16)
    assert features is not None
    phi = np.asarray(features(IMAGES))
    kernel = RandomFeatureKernel(convnet(4, 1), (4, 4, 1), 2)
    networks = kernel.sample(step_key(named_key(4, "step"), 0))
    wanted = jax.jit(kernel.features)(networks, IMAGES)
    np.testing.assert_allclose(phi @ phi.T, kernel.gram(wanted, wanted), rtol=1e-5)
    other = parse(compose("config", ["method=random"]))
    assert step_zero_features(other, convnet(4, 1), (4, 4, 1), 16) is None


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


@pytest.fixture(scope="module")
def two_steps():
    """Two steps of RFAD from an initial set, compiled once for all of them."""
    import jax
    import jax.numpy as jnp

    from distill_cli.cli.compose import compose
    from distill_cli.config import parse
    from distill_cli.core.types import Batch, Coreset, one_hot_centred
    from distill_cli.methods.base import Setting, make_distiller

    run = parse(compose("config", ["method=rfad", "kernel.networks=2"]))
    method = make_distiller(Setting(run, convnet(4, 1), (4, 4, 1), 3, 8))
    batch = Batch(jnp.asarray(IMAGES), jnp.asarray(LABELS), jnp.ones(41, jnp.float32))
    step = jax.jit(method.step)

    def go(images: np.ndarray) -> tuple[Coreset, float]:
        targets = one_hot_centred(jnp.repeat(jnp.arange(3), 3), 3)
        start = Coreset(jnp.asarray(images), targets, jnp.zeros((), jnp.float64))
        state, info = method.init(jax.random.key(0), start), {}
        for key in jax.random.split(jax.random.key(1)):
            state, info = step(state, batch, key)
        return method.coreset(state), float(info["loss"])

    return go


@pytest.mark.parametrize("name", SELECTING)
def test_rfad_distils_from_every_selection(name, two_steps):
    found = initialise(config(name), request())
    coreset, loss = two_steps(found.images)
    assert np.isfinite(loss)
    assert np.isfinite(coreset.images).all()
    assert not np.array_equal(coreset.images, found.images)
