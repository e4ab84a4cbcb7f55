"""RFAD against finite differences in float64, the written optimiser recurrence, and its rules."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.core.losses import LOSSES
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.methods import rfad
from distill_cli.methods.krr import krr_value_and_grad

SHAPE = (6, 6, 1)
KERNEL = RandomFeatureKernel(convnet(8, 1), SHAPE, 2)
KEY = jax.random.key(0)


def toy(dtype=jnp.float32, coreset: int = 4, batch: int = 7):
    """A two-class problem: a coreset with uneven labels and a weighted batch."""
    keys = jax.random.split(KEY, 5)
    labels = one_hot_centred(jnp.arange(coreset) % 2, 2).astype(dtype)
    labels = labels + 0.1 * jax.random.normal(keys[3], labels.shape, dtype)
    k = jnp.asarray(0.4, jnp.float64)
    start = Coreset(jax.random.normal(keys[0], (coreset, *SHAPE), dtype), labels, k)
    images = jax.random.normal(keys[1], (batch, *SHAPE), dtype)
    targets = jax.random.randint(keys[2], (batch,), 0, 2)
    weights = jax.random.uniform(keys[4], (batch,), dtype, 0.5, 2.0)
    return start, Batch(images, targets, weights)


def distiller(loss="platt", learn=True, micro=3, **options) -> rfad.RFAD:
    config = rfad.Config(**options)
    return rfad.RFAD(config, KERNEL, loss, learn, micro, 4, config.ridge)


@pytest.mark.parametrize("loss", ["platt", "mse"])
def test_gradients_against_finite_differences_in_float64(loss):
    """With respect to X_S, M, y_S and the temperature, through the same path as a training step."""
    start, batch = toy(jnp.float64)
    networks = jax.tree.map(lambda p: p.astype(jnp.float64), KERNEL.sample(KEY))
    method = distiller(loss)
    noise = 0.1 * jax.random.normal(KEY, (36, 36), jnp.float64)
    params = {
        "images": start.images,
        "transform": jnp.eye(36) + noise,
        "labels": start.labels,
        "log_temperature": start.log_temperature,
    }

    def value_and_grads(params):
        def coreset_of(p):
            return method.coreset(rfad.State(p, None, None))

        coreset, pull = jax.vjp(coreset_of, params)
        info, grads = krr_value_and_grad(
            partial(KERNEL.features, networks),
            KERNEL.gram,
            coreset,
            batch,
            loss=LOSSES[loss],
            reg=5e-3,
            micro=3,
        )
        return info["loss"], pull(grads)[0]

    run = jax.jit(value_and_grads)
    _, grads = run(params)
    rng = np.random.default_rng(0)
    for name, value in params.items():
        for _ in range(3):
            direction = jnp.asarray(rng.normal(size=value.shape))
            step = 1e-5
            up, _ = run({**params, name: value + step * direction})
            down, _ = run({**params, name: value - step * direction})
            expected = float(up - down) / (2 * step)
            found = float(jnp.sum(grads[name] * direction))
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-9), name
    if loss == "mse":
        assert float(grads["log_temperature"]) == 0


def test_micro_batches_do_not_change_loss_or_gradient():
    start, batch = toy(jnp.float64)
    networks = jax.tree.map(lambda p: p.astype(jnp.float64), KERNEL.sample(KEY))
    featurise = partial(KERNEL.features, networks)

    def run(micro):
        return krr_value_and_grad(
            featurise, KERNEL.gram, start, batch, loss=LOSSES["platt"], reg=5e-3, micro=micro
        )

    whole, grads = run(100)
    for micro in (1, 2, 7):
        info, found = run(micro)
        np.testing.assert_allclose(info["loss"], whole["loss"], rtol=1e-12)
        assert float(info["accuracy"]) == float(whole["accuracy"])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, grads
        )


def test_loss_is_the_weighted_mean_written_out():
    start, batch = toy(jnp.float64)
    networks = jax.tree.map(lambda p: p.astype(jnp.float64), KERNEL.sample(KEY))
    phi_s = np.asarray(KERNEL.features(networks, start.images))
    phi_t = np.asarray(KERNEL.features(networks, batch.images))
    k_ss, k_ts = 2 * phi_s @ phi_s.T + 0.01, 2 * phi_t @ phi_s.T + 0.01
    alpha = np.linalg.solve(k_ss + 5e-3 * np.trace(k_ss) / 4 * np.eye(4), start.labels)
    logits = np.exp(0.4) * k_ts @ alpha
    per = np.log(np.exp(logits).sum(1)) - logits[np.arange(7), np.asarray(batch.labels)]
    info, _ = krr_value_and_grad(
        partial(KERNEL.features, networks),
        KERNEL.gram,
        start,
        batch,
        loss=LOSSES["platt"],
        reg=5e-3,
        micro=4,
    )
    expected = (np.asarray(batch.weights) * per).mean()
    assert float(info["loss"]) == pytest.approx(expected, rel=1e-10)
    hits = logits.argmax(1) == np.asarray(batch.labels)
    assert float(info["accuracy"]) == pytest.approx(hits.mean())


def test_adabelief_is_the_written_recurrence():
    """m, s and x as in section 4 of the method's description, over 200 steps in float64."""
    rng = np.random.default_rng(0)
    rate, b1, b2, eps = 1e-2, 0.9, 0.999, 1e-16
    x = rng.normal(size=5)
    params = jnp.asarray(x)
    m, s = np.zeros(5), np.zeros(5)
    rule = rfad.adabelief(rate)
    state = rule.init(params)
    for t in range(1, 201):
        g = rng.normal(size=5) + 2 * x
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
        x = x - rate / (1 - b1**t) * m / (np.sqrt(s / (1 - b2**t)) + eps)
        updates, state = rule.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, x, rtol=1e-11)
        x = np.asarray(params)


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        ({"loss": "platt", "learn": True}, {"images", "transform", "labels", "log_temperature"}),
        ({"loss": "platt", "learn": False}, {"images", "transform", "log_temperature"}),
        ({"loss": "mse", "learn": True}, {"images", "transform", "labels"}),
        ({"loss": "mse", "learn": False, "transform": False}, {"images"}),
    ],
)
def test_only_what_is_learned_moves(options, moves):
    start, batch = toy()
    method = distiller(**options)
    state = method.init(KEY, start)
    after, info = jax.jit(method.step)(state, batch, KEY)
    moved = {k for k, v in state.params.items() if not np.array_equal(v, after.params[k])}
    assert moved == moves
    assert ("transform" in state.params) == method.config.transform
    assert {"loss", "accuracy", "temperature"} <= info.keys()
    kinds = {k: v.dtype for k, v in after.params.items()}
    assert kinds.pop("log_temperature") == jnp.float64
    assert set(kinds.values()) == {jnp.dtype("float32")}


def test_identity_transform_and_no_corruption_leave_images_untouched():
    start, _ = toy()
    method = distiller()
    np.testing.assert_array_equal(method.coreset(method.init(KEY, start)).images, start.images)


def test_corrupted_pixels_stay_at_their_initial_values():
    start, batch = toy()
    method = distiller(corruption=0.5)
    state = method.init(KEY, start)
    step = jax.jit(method.step)
    for number in range(3):
        state, _ = step(state, batch, jax.random.key(number))
    frozen = np.asarray(state.frozen[1])
    images = np.asarray(method.coreset(state).images)
    np.testing.assert_array_equal(images[frozen], np.asarray(start.images)[frozen])
    assert 0.3 < frozen.mean() < 0.7
    assert (images[~frozen] != np.asarray(start.images)[~frozen]).mean() > 0.9


def test_validation_networks_are_fixed_and_score_is_the_loss():
    start, batch = toy()
    method = distiller()
    score = method.validator(KEY, batch.images, batch.labels)
    assert float(score(start)["valid_loss"]) == float(score(start)["valid_loss"])
    kernel = RandomFeatureKernel(KERNEL.architecture, SHAPE, 4)
    networks = kernel.sample(KEY)
    weights = jnp.ones_like(batch.weights)
    info, _ = krr_value_and_grad(
        partial(kernel.features, networks),
        kernel.gram,
        start,
        batch._replace(weights=weights),
        loss=LOSSES["platt"],
        reg=5e-3,
        micro=9,
    )
    assert float(score(start)["valid_loss"]) == pytest.approx(float(info["loss"]), rel=1e-5)
