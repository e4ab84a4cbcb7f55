"""loss_importance and kmeans_batch: probabilities, weights, unbiased estimates, fallbacks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.errors import UserError
from distill_cli.train.samplers.base import make_sampler
from distill_cli.train.samplers.loss_importance import shares
from sampler_problem import (
    COUNTS,
    IMAGES,
    LABELS,
    Mean,
    distiller,
    parsed,
    rows_of,
    start,
    training,
)

SAMPLERS = ["uniform", "loss_importance", "kmeans_batch"]
KEY = jax.random.key(3)


def prepared(*options: str, rfad: bool = False):
    """(jitted draw, sampler's state after an update, training set, method, method's state)."""
    config = parsed(*options)
    method: Any = distiller(config) if rfad else Mean()
    state = method.init(jax.random.key(0), start())
    sampler, train = make_sampler(config, method), training()
    sampling = sampler.init(train)
    if sampler.refresh:
        sampling, values = sampler.update(sampling, train, state, KEY)
        assert all(np.isfinite(value) for value in values.values())
    return jax.jit(sampler.draw), sampling, train, method, state


@pytest.mark.parametrize(
    ("name", "balanced"),
    [("uniform", "true"), ("loss_importance", "false"), ("kmeans_batch", "true"),
     ("pooled", "true")],
)  # fmt: skip
def test_two_steps_with_rfad(name, balanced):
    """Fixed shapes under jit and scan, deterministic in the key, finite steps."""
    group = "loss_importance" if name == "pooled" else name
    options = [f"sampler={group}", f"sampler.balanced={balanced}"]
    options += ["sampler.pool=2"] if name == "pooled" else []
    draw, sampling, train, method, state = prepared(*options, rfad=True)

    @jax.jit
    def two(state, sampling, train):
        def body(state, key):
            batch = draw(sampling, train, state, key)
            state, info = method.step(state, batch, key)
            return state, (batch, info)

        return jax.lax.scan(body, state, jax.random.split(KEY, 2))

    after, (batches, info) = two(state, sampling, train)
    assert batches.images.shape == (2, 24, 6, 6, 1)
    assert np.isfinite(info["loss"]).all()
    assert all(np.isfinite(part).all() for part in method.coreset(after))
    assert np.isfinite(batches.weights).all() and (np.asarray(batches.weights) >= 0).all()
    again = two(state, sampling, train)[1][0]
    jax.tree.map(np.testing.assert_array_equal, batches, again)
    if balanced == "true":
        counts = np.bincount(np.asarray(batches.labels).reshape(-1), minlength=3)
        np.testing.assert_array_equal(counts, 16)
    first = jax.tree.map(lambda part: part[0], batches)
    np.testing.assert_array_equal(LABELS[rows_of(first)], first.labels)


@pytest.mark.parametrize("balanced", ["false", "true"])
def test_gamma_one_is_the_uniform_sampler_bit_for_bit(balanced):
    option = f"sampler.balanced={balanced}"
    draw, sampling, train, _, state = prepared("sampler=loss_importance", "sampler.gamma=1", option)
    other, plain, *_ = prepared("sampler=uniform", option)
    one = draw(sampling, train, state, KEY)
    jax.tree.map(np.testing.assert_array_equal, one, other(plain, train, state, KEY))
    assert jax.tree.leaves(sampling) == []


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_shares_follow_the_formula(power):
    losses = np.array([[0.1, 2.0, 0.0, 5.0, 7.0]])
    real = np.array([[True, True, True, True, False]])
    found, usable = shares(jnp.asarray(losses), jnp.asarray(real), 0.3, power)
    scores = losses[0, :4] ** power
    np.testing.assert_allclose(found[0, :4], 0.7 * scores / scores.sum() + 0.3 / 4, rtol=1e-12)
    assert found[0, 4] == 0
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    assert bool(usable[0])
    assert (1 / (4 * np.asarray(found[0, :4])) <= 1 / 0.3 + 1e-12).all()


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_losses_that_say_nothing_give_uniform_shares(bad):
    losses = jnp.array([1.0, 2.0, 3.0]).at[1].set(bad) if bad else jnp.zeros(3)
    found, usable = shares(losses[None], jnp.ones((1, 3), bool), 0.5, 1.0)
    np.testing.assert_allclose(found, 1 / 3, rtol=1e-12)
    assert not bool(usable[0])


@pytest.mark.parametrize("balanced", ["false", "true"])
@pytest.mark.parametrize("name", [*SAMPLERS, "pooled"])
def test_weighted_batches_estimate_the_mean_without_bias(name, balanced):
    """Mean of v_i f_i over many draws against the mean of f, or of its class means, within 4
    standard errors; the weights matter where images are not drawn uniformly."""
    group = "loss_importance" if name == "pooled" else name
    options = [f"sampler={group}", f"sampler.balanced={balanced}", "batch.size=7"]
    options += ["sampler.pool=3"] if name == "pooled" else []
    draw, sampling, train, _, state = prepared(*options)
    values = np.asarray(IMAGES).reshape(64, -1)[:, 0].astype(np.float64) ** 2
    wanted = values.mean()
    if balanced == "true":
        wanted = np.mean([values[label == LABELS].mean() for label in range(3)])

    @jax.jit
    def estimate(key):
        batch = draw(sampling, train, state, key)
        first = batch.images[:, 0, 0, 0].astype(jnp.float64) ** 2
        return jnp.mean(batch.weights * first)

    keys = jax.random.split(jax.random.key(11), 1500)
    found = np.asarray(jax.lax.map(estimate, keys, batch_size=100))
    assert abs(found.mean() - wanted) < 4 * found.std() / len(found) ** 0.5


def test_images_are_drawn_as_often_as_their_share_says():
    draw, sampling, train, _, state = prepared("sampler=loss_importance", "sampler.gamma=0.2")
    share = np.asarray(sampling.share)
    rows, weights = [], []
    for key in jax.random.split(KEY, 300):
        batch = draw(sampling, train, state, key)
        rows.append(rows_of(batch))
        weights.append(np.asarray(batch.weights))
    rows, weights = np.concatenate(rows), np.concatenate(weights)
    counts = np.bincount(rows, minlength=64)
    expected = share * len(rows)
    assert ((counts - expected) ** 2 / expected).sum() < 64 + 5 * (2 * 64) ** 0.5
    np.testing.assert_allclose(weights, 1 / (64 * share[rows]), rtol=1e-6)
    assert weights.max() <= 1 / 0.2 + 1e-5
    assert share.sum() == pytest.approx(1, abs=1e-12)


def test_without_reweighting_weights_are_one():
    for name in ("loss_importance", "kmeans_batch"):
        draw, sampling, train, _, state = prepared(f"sampler={name}", "sampler.reweight=false")
        batch = draw(sampling, train, state, KEY)
        assert set(np.unique(batch.weights).tolist()) <= {0.0, 1.0}


def test_a_method_may_score_its_images_itself():
    class Own:
        def losses(self, state, images, labels, key):
            del state, key
            return images[:, 0, 0, 0] ** 2 + labels

    config = parsed("sampler=loss_importance", "sampler.gamma=0")
    sampler, train = make_sampler(config, Own()), training()  # type: ignore[arg-type]
    state, _ = sampler.update(sampler.init(train), train, (), KEY)
    losses = IMAGES[:, 0, 0, 0] ** 2 + LABELS
    np.testing.assert_allclose(state.share, losses / losses.sum(), rtol=1e-5)


def test_unusable_losses_are_counted_and_said(caplog):
    class Zero:
        def losses(self, state, images, labels, key):
            del state, labels, key
            return jnp.zeros(images.shape[0])

    config = parsed("sampler=loss_importance")
    sampler, train = make_sampler(config, Zero()), training()  # type: ignore[arg-type]
    state, values = sampler.update(sampler.init(train), train, (), KEY)
    state, values = sampler.update(state, train, (), KEY)
    np.testing.assert_allclose(state.share, 1 / 64)
    assert values["sampler_fallbacks"] == 2
    assert "drawn uniformly" in caplog.text


def test_equal_images_give_no_nan():
    train = training()._replace(images=jnp.ones((64, 6, 6, 1), jnp.float32))
    for name in ("loss_importance", "kmeans_batch"):
        config = parsed(f"sampler={name}")
        method: Any = Mean()
        state = method.init(jax.random.key(0), start())
        sampler = make_sampler(config, method)
        sampling, values = sampler.update(sampler.init(train), train, state, KEY)
        batch = jax.jit(sampler.draw)(sampling, train, state, KEY)
        assert all(np.isfinite(value) for value in values.values())
        assert np.isfinite(batch.weights).all()
        assert float(batch.weights.sum()) > 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("sampler.gamma=1.5", r"sampler\.gamma=1\.5: must lie in \[0, 1\]"),
        ("sampler.refresh=0", r"sampler\.refresh=0: must be at least 1"),
        ("sampler.pool=0", r"sampler\.pool=0"),
        ("sampler.score_power=-1", r"sampler\.score_power=-1"),
    ],
)
def test_values_out_of_range_are_refused(option, said):
    with pytest.raises(UserError, match=said):
        parse(compose("config", ["sampler=loss_importance", option]))


def test_the_sampler_counts_in_the_digest():
    from distill_cli.config import plain
    from distill_cli.naming import digest

    trees = [plain(compose("config", [f"sampler={name}"])) for name in SAMPLERS]
    assert len({digest(tree) for tree in trees}) == 3
    assert dataclasses.is_dataclass(parsed("sampler=kmeans_batch").sampler)
    assert COUNTS.tolist() == [20, 30, 14]
