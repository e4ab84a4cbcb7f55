"""The shared trainer against NumPy: batches, schedules, optimisers, micro-batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.evaluation import dc, frepo, kip_finite, trainer
from distill_cli.evaluation.batching import Batching, rows_of_step
from distill_cli.evaluation.optimiser import Optimiser
from distill_cli.evaluation.trainer import Recipe, train

KEY = jax.random.key(0)


class Linear(nn.Module):
    """f = x W + b on flattened images."""

    classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        del train
        return nn.Dense(self.classes, dtype=jnp.float32)(x.reshape(x.shape[0], -1))


def data(n=6):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(n, 3)).astype(np.float32)
    return rng.normal(size=(n, 2, 2, 1)).astype(np.float32), targets


def start(seed=0):
    return Linear().init(jax.random.key(seed), jnp.zeros((1, 2, 2, 1)))


def float64(variables):
    dense = variables["params"]["Dense_0"]
    return np.asarray(dense["kernel"], np.float64), np.asarray(dense["bias"], np.float64)


def gradient(name, w, b, x, y):
    """Mean over images of the losses' gradients, by hand."""
    f = x @ w + b
    if name == "cross_entropy":
        p = np.exp(f) / np.exp(f).sum(1, keepdims=True)
        d = p - np.eye(3)[y.argmax(1)]
    else:
        d = (f - y) / (1 if name == "squared" else 3)
    return x.T @ d / len(x), d.mean(0)


def test_dc_training_by_hand():
    """Momentum, coupled weight decay, one drop of the rate with fresh momentum, E + 1 epochs."""
    images, targets = data()
    recipe = dc.recipe(dc.Config(), "dc", "none", 10, 6)
    assert recipe.steps == 11
    w, b = float64(start())
    x, y = images.reshape(6, -1).astype(np.float64), targets
    vw, vb, rate = 0 * w, 0 * b, 0.01
    for epoch in range(11):
        gw, gb = gradient("cross_entropy", w, b, x, y)
        vw, vb = 0.9 * vw + gw + 5e-4 * w, 0.9 * vb + gb + 5e-4 * b
        w, b = w - rate * vw, b - rate * vb
        if epoch == 10 // 2 + 1:
            vw, vb, rate = 0 * w, 0 * b, 0.1 * rate
    got = train(Linear(), recipe, images, targets, start(), KEY, 0.01)
    np.testing.assert_allclose(float64(got.variables)[0], w, atol=1e-6)
    np.testing.assert_allclose(float64(got.variables)[1], b, atol=1e-6)
    assert got.finite


def test_frepo_training_by_hand():
    """Adam with warm-up and cosine on 1/2 squared error."""
    images, targets = data()
    recipe = Recipe(
        "squared", 20, Batching("epochs", 500), Optimiser("adam", "cosine", warmup=5, floor=0.01)
    )
    w, b = float64(start())
    theta = np.concatenate([w.ravel(), b])
    x, y = images.reshape(6, -1).astype(np.float64), targets.astype(np.float64)
    m = v = 0 * theta
    for t in range(20):
        g = np.concatenate(
            [
                part.ravel()
                for part in gradient("squared", theta[:12].reshape(4, 3), theta[12:], x, y)
            ]
        )
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        share = t / 5 if t < 5 else 0.01 + 0.99 * (1 + np.cos(np.pi * (t - 5) / 15)) / 2
        step = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        theta = theta - 0.1 * share * step
    got = train(Linear(), recipe, images, targets, start(), KEY, 0.1)
    w, b = float64(got.variables)
    np.testing.assert_allclose(np.concatenate([w.ravel(), b]), theta, atol=1e-5)


def test_kip_training_by_hand():
    """A batch of 100 from 6 images weighs them by how often the stream repeats them."""
    images, targets = data()
    recipe = Recipe(
        "mean_squared", 12, Batching("stream", 100),
        Optimiser("momentum", "cosine", weight_decay=1e-3),
    )  # fmt: skip
    w, b = float64(start())
    x, y = images.reshape(6, -1).astype(np.float64), targets.astype(np.float64)
    row_key, _ = jax.random.split(KEY)
    orders = [
        jax.random.permutation(jax.random.fold_in(row_key, e), np.arange(6)) for e in range(201)
    ]
    stream = np.concatenate(orders)
    vw, vb = 0 * w, 0 * b
    for t in range(12):
        rows = stream[100 * t : 100 * t + 100]
        gw, gb = gradient("mean_squared", w, b, x[rows], y[rows])
        vw, vb = 0.9 * vw + gw + 1e-3 * w, 0.9 * vb + gb + 1e-3 * b
        rate = 0.2 * (1 + np.cos(np.pi * t / 12)) / 2
        w, b = w - rate * vw, b - rate * vb
    got = train(Linear(), recipe, images, targets, start(), KEY, 0.2)
    np.testing.assert_allclose(float64(got.variables)[0], w, atol=1e-5)
    np.testing.assert_allclose(float64(got.variables)[1], b, atol=1e-5)


@pytest.mark.parametrize("order", ["epochs", "ordered", "stream"])
@pytest.mark.parametrize(("n", "size"), [(10, 4), (10, 5), (3, 8), (7, 7)])
def test_every_epoch_visits_every_image(order, n, size):
    batching = Batching(order, size)
    pick = jax.jit(lambda step: rows_of_step(batching, KEY, step, n))
    visits = np.zeros(n)
    steps = n if order == "stream" else -(-n // size)  # n batches of the stream: `size` epochs
    for step in range(steps):
        rows, weights = map(np.asarray, pick(step))
        assert weights.sum() == pytest.approx(1)
        np.add.at(visits, rows, weights * (size if order == "stream" else (weights > 0).sum()))
    np.testing.assert_allclose(visits, visits[0], rtol=1e-5)
    assert visits[0] == pytest.approx(size if order == "stream" else 1)


def test_epochs_are_shuffled_and_ordered_ones_are_not():
    def epoch(order, step):
        return np.asarray(rows_of_step(Batching(order, 20), KEY, np.int32(step), 40)[0])

    np.testing.assert_array_equal(epoch("ordered", 3), np.arange(20, 40))
    assert not np.array_equal(epoch("epochs", 0), epoch("epochs", 2))
    both = np.concatenate([epoch("epochs", 4), epoch("epochs", 5)])
    np.testing.assert_array_equal(np.sort(both), np.arange(40))


def test_the_last_batch_of_an_epoch_is_smaller():
    """Its weights are those of the images that are left, as for a loader without drop_last."""
    rows, weights = rows_of_step(Batching("ordered", 4), KEY, np.int32(2), 10)
    np.testing.assert_array_equal(rows[:2], [8, 9])
    np.testing.assert_allclose(weights, [0.5, 0.5, 0, 0])


def test_micro_batches_give_the_same_network(monkeypatch):
    images, targets = data(7)
    recipe = Recipe("squared", 5, Batching("epochs", 500), Optimiser("momentum"))
    whole = train(Linear(), recipe, images, targets, start(), KEY, 0.05)
    monkeypatch.setattr(trainer, "micro_batch", lambda *args, **kwargs: 2)
    jax.clear_caches()
    parts = train(Linear(), recipe, images, targets, start(), KEY, 0.05)
    for a, b in zip(float64(whole.variables), float64(parts.variables), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_divergence_is_reported():
    images, targets = data()
    recipe = Recipe("squared", 400, Batching("epochs", 500), Optimiser("momentum"))
    got = train(Linear(), recipe, images, targets, start(), KEY, 1e4)
    assert not got.finite


def test_schedules():
    drop = Optimiser("momentum", "drop", drop_at=5)
    assert [float(drop.schedule(t, 10)) for t in (4, 5)] == pytest.approx([1, 0.1])
    cosine = Optimiser("adam", "cosine", warmup=10, floor=0.01)
    values = [float(cosine.schedule(t, 110)) for t in (0, 5, 10, 60, 110)]
    assert values == pytest.approx([0, 0.5, 1, 0.505, 0.01])
    assert frepo.WARMUP == 500
    assert kip_finite.MOMENTUM == 0.9
