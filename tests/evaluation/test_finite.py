"""Finite-width training against an independent float64 computation, and its rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from distill_cli.arch import network
from distill_cli.arch.layers import Architecture, AvgPool, Conv, Flatten, Relu, convnet
from distill_cli.arch.network import predict
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError
from distill_cli.evaluation import finite
from distill_cli.evaluation.finite import evaluate_finite
from distill_cli.evaluation.finite_table import FiniteConfig, Tuned, tuned, with_tuned
from distill_cli.evaluation.finite_training import network_key, train_finite

TINY = Architecture((Conv(2), Relu(), AvgPool(), Flatten()))
SET = FiniteConfig(
    width=2,
    learning_rate=0.3,
    label_scale=4.0,
    weight_decay=0.02,
    max_steps=3,
    validate_every=3,
)


def _coreset(n: int, shape=(5, 4, 1), classes: int = 2, seed: int = 0) -> Coreset:
    rng = np.random.default_rng(seed)
    labels = np.eye(classes)[np.arange(n) % classes] - 1 / classes
    return Coreset(
        jnp.asarray(rng.normal(size=(n, *shape)), jnp.float32),
        jnp.asarray(labels + 0.1 * rng.normal(size=labels.shape), jnp.float32),
        jnp.zeros((), jnp.float32),
    )


def _numpy_outputs(theta: dict, x: np.ndarray) -> np.ndarray:
    """TINY followed by the read-out, float64."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    hidden, readout = theta["hidden_0"], theta["readout"]
    h = np.maximum(np.einsum("nijcab,abco->nijo", patches, hidden["kernel"]) + hidden["bias"], 0)
    n, rows, columns, channels = h.shape
    h = h[:, : rows // 2 * 2, : columns // 2 * 2]
    h = h.reshape(n, rows // 2, 2, columns // 2, 2, channels).mean((2, 4))
    return h.reshape(n, -1) @ readout["kernel"] + readout["bias"]


def _oracle(config: FiniteConfig, initial, coreset: Coreset, steps: int, batches=None) -> list:
    """Weights after 0, 1, ..., steps of SGD, gradients by central differences in float64."""
    theta0 = jax.tree.map(lambda a: np.asarray(a, np.float64), initial["params"])
    leaves, tree = jax.tree.flatten(theta0)
    sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def unflatten(vector):
        parts = np.split(vector, sizes)
        return tree.unflatten([p.reshape(y.shape) for p, y in zip(parts, leaves, strict=True)])

    start = np.concatenate([leaf.ravel() for leaf in leaves])
    origin = start if config.centred else np.zeros_like(start)
    scale, decay = config.label_scale, config.weight_decay
    all_x, all_y = np.asarray(coreset.images, np.float64), np.asarray(coreset.labels, np.float64)

    def loss(vector, rows):
        x, y = all_x[rows], all_y[rows]
        g = _numpy_outputs(unflatten(vector), x)
        if config.centred:
            g = g - _numpy_outputs(theta0, x)
        penalty = decay * np.sum((vector - origin) ** 2)
        if config.loss == "mse":
            return np.mean((g - scale * y) ** 2) / scale**2 + penalty
        log_p = g - np.log(np.exp(g).sum(-1, keepdims=True))
        return -np.mean(log_p[np.arange(len(y)), y.argmax(-1)]) + penalty

    vector, velocity, path = start.copy(), np.zeros_like(start), [unflatten(start)]
    for step in range(steps):
        rows = np.arange(len(all_x)) if batches is None else batches[step]
        gradient = np.zeros_like(vector)
        for i in range(len(vector)):
            shift = np.zeros_like(vector)
            shift[i] = 1e-6
            gradient[i] = (loss(vector + shift, rows) - loss(vector - shift, rows)) / 2e-6
        velocity = config.momentum * velocity + gradient
        vector = vector - config.learning_rate * velocity
        path.append(unflatten(vector))
    return path


def _train(config, coreset, images=None, labels=None, key=None, architecture=TINY):
    images = np.asarray(coreset.images) if images is None else images
    labels = np.zeros(len(images), np.int32) if labels is None else labels
    key = network_key(0, 0) if key is None else key
    return train_finite(config, architecture, coreset, images, labels, key)


def _assert_close(params, expected, atol=2e-5):
    for got, want in zip(jax.tree.leaves(params["params"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"centred": False}, {"loss": "cross_entropy"}, {"label_scale": 1.0, "momentum": 0.0}],
)
def test_three_steps_equal_finite_differences(changes, x64):
    config = FiniteConfig(**{**SET.__dict__, **changes})
    coreset = _coreset(6)
    with jax.enable_x64(x64):
        trained = _train(config, coreset)
    assert {leaf.dtype for leaf in jax.tree.leaves(trained.params)} == {jnp.dtype("float32")}
    expected = _oracle(config, trained.initial, coreset, 3)
    _assert_close(trained.params, expected[-1])
    moved = [
        np.abs(np.asarray(a) - b).max()
        for a, b in zip(
            jax.tree.leaves(trained.params), jax.tree.leaves(trained.initial), strict=True
        )
    ]
    assert max(moved) > 1e-2  # the comparison above is not of two standing still


@pytest.mark.parametrize("train_bytes", [1, 1000, 1 << 20])
def test_minibatches_scale_the_labels_and_micro_batches_do_not_matter(monkeypatch, train_bytes):
    """More images than config.batch: rows with replacement, the same loss with its label scale."""
    monkeypatch.setattr(network, "_TRAINING_BYTES", {jax.default_backend(): train_bytes})
    jax.clear_caches()
    config = FiniteConfig(**{**SET.__dict__, "batch": 5})
    coreset, key = _coreset(7), network_key(3, 0)
    drawn = []
    randint = jax.random.randint

    def spy(*args, **kwargs):
        rows = randint(*args, **kwargs)
        jax.debug.callback(lambda r: drawn.append(np.asarray(r)), rows, ordered=True)
        return rows

    monkeypatch.setattr(jax.random, "randint", spy)
    trained = _train(config, coreset, key=key)
    jax.effects_barrier()
    jax.clear_caches()
    assert [len(rows) for rows in drawn] == [5, 5, 5]
    _assert_close(trained.params, _oracle(config, trained.initial, coreset, 3, drawn)[-1])


def test_centred_outputs_start_at_exactly_zero():
    coreset = _coreset(6)
    images = np.asarray(_coreset(11, seed=1).images)
    trained = _train(SET, coreset)
    start = predict(trained.network, trained.initial, images)
    again = predict(trained.network, jax.tree.map(jnp.copy, trained.initial), images)
    assert np.all(again - start == 0)
    assert np.abs(predict(trained.network, trained.params, images) - start).max() > 1e-3


def test_keeps_the_step_that_is_best_on_validation_and_stops_after_patience():
    """Validation labels are the oracle's predictions after step 4: only there accuracy is 1."""
    coreset = _coreset(6)
    images = np.asarray(_coreset(200, seed=2).images)
    config = FiniteConfig(**{**SET.__dict__, "max_steps": 40, "validate_every": 1, "patience": 3})
    initial = _train(config, coreset).initial
    path = _oracle(config, initial, coreset, 7)
    predictions = [
        (_numpy_outputs(theta, images) - _numpy_outputs(path[0], images)).argmax(-1)
        for theta in path
    ]
    agree = [float(np.mean(p == predictions[4])) for p in predictions]
    assert max(agree[:4] + agree[5:]) < agree[4] == 1  # the case is as crafted
    trained = _train(config, coreset, images, predictions[4].astype(np.int32))
    assert (trained.best_step, trained.steps) == (4, 7)
    assert trained.best_accuracy == pytest.approx(1, abs=0.01)
    assert [r.step for r in trained.history] == list(range(1, 8))
    np.testing.assert_allclose([r.valid_accuracy for r in trained.history], agree[1:], atol=0.011)
    _assert_close(trained.params, path[4], atol=1e-4)


def test_ties_keep_the_earlier_step():
    config = FiniteConfig(
        **{
            **SET.__dict__,
            "learning_rate": 1e-12,
            "max_steps": 30,
            "validate_every": 2,
            "patience": 6,
            "centred": False,
        }
    )
    trained = _train(config, _coreset(6))
    assert (trained.best_step, trained.steps) == (2, 8)


def test_divergence_keeps_the_last_good_weights():
    coreset = _coreset(6)
    config = FiniteConfig(
        **{**SET.__dict__, "learning_rate": 1e25, "max_steps": 50, "validate_every": 5}
    )
    trained = _train(config, coreset)
    assert "not finite" in trained.warning
    assert trained.steps <= 5
    images, labels = np.asarray(coreset.images), np.zeros(6, np.int32)
    metric = evaluate_finite(config, TINY, coreset, (images, labels), (images, labels), "digits", 3)
    assert metric.accuracy == 1.0  # centred initial weights: all outputs equal, class 0
    assert len(metric.detail["warnings"]) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))


def _digits():
    images, labels = load_digits(return_X_y=True)
    images = ((images - images.mean()) / images.std()).astype(np.float32).reshape(-1, 8, 8, 1)
    rows = np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(10)])
    rest = np.setdiff1d(np.arange(len(labels)), rows)
    coreset = Coreset(
        jnp.asarray(images[rows]),
        jnp.asarray(np.eye(10)[labels[rows]] - 0.1, jnp.float32),
        jnp.zeros((), jnp.float32),
    )
    valid, test = rest[:300], rest[300:]
    return coreset, (images[valid], labels[valid]), (images[test], labels[test])


def test_learns_digits_from_ten_images_a_class_and_repeats_itself():
    coreset, valid, test = _digits()
    config = FiniteConfig(width=16, networks=2, max_steps=300, seed=1)
    seen = []

    def run(**changes):
        return evaluate_finite(
            FiniteConfig(**{**config.__dict__, **changes}),
            convnet(8, 2),
            coreset,
            valid,
            test,
            "digits",
            10,
            lambda message, fraction: seen.append((message, fraction)),
        )

    metric = run()
    assert metric.accuracy > 0.65
    runs = metric.detail["networks"]
    accuracies = [r["accuracy"] for r in runs]
    assert (metric.protocol, metric.n, metric.images) == ("finite", 2, len(test[1]))
    assert metric.accuracy == pytest.approx(np.mean(accuracies))
    assert metric.std == pytest.approx(abs(accuracies[0] - accuracies[1]) / np.sqrt(2))
    assert metric.detail["published_cell"] == "mnist ipc 10"
    assert metric.detail["learning_rate"] == pytest.approx(1e-2 * 1024 / 16)
    assert (metric.detail["label_scale"], metric.detail["weight_decay"]) == (8, 1e-3)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert "at most" in seen[0][0]


def test_equal_seeds_give_equal_networks_and_others_differ():
    coreset = _coreset(6)
    images = np.asarray(_coreset(50, seed=2).images)
    labels = np.arange(50) % 2

    def run(seed: int, networks: int = 1):
        config = FiniteConfig(**{**SET.__dict__, "batch": 4, "seed": seed, "networks": networks})
        return evaluate_finite(config, TINY, coreset, (images, labels), (images, labels), "x", 1)

    both = run(5, networks=2)
    assert run(5).detail["networks"] == both.detail["networks"][:1]
    assert run(5).std is None
    first, repeated, second, other = (
        _train(SET, coreset, key=network_key(*which)).params
        for which in ((5, 0), (5, 0), (5, 1), (6, 0))
    )
    jax.tree.map(np.testing.assert_array_equal, first, repeated)
    for different in (second, other):
        gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first, different)
        assert min(jax.tree.leaves(gap)) > 1e-3


def test_test_images_cannot_change_training():
    coreset = _coreset(6)
    images, labels = np.asarray(_coreset(60, seed=2).images), np.arange(60) % 2
    config = FiniteConfig(**{**SET.__dict__, "validate_every": 1})
    kept = [
        evaluate_finite(
            config, TINY, coreset, (images[:30], labels[:30]), (images[30:], answer), "x", 1
        ).detail["networks"][0]
        for answer in (labels[30:], 1 - labels[30:])
    ]
    for key in ("valid_accuracy", "best_step", "steps"):
        assert kept[0][key] == kept[1][key]
    assert kept[0]["accuracy"] == pytest.approx(1 - kept[1]["accuracy"])


def test_valid_limit_keeps_classes_in_proportion():
    labels = np.repeat(np.arange(5), 40)  # sorted by class: the first 20 would be of one class
    images = np.arange(200, dtype=np.float32).reshape(200, 1, 1, 1)
    few, kept = finite._limited(images, labels, 20)
    assert np.bincount(kept).tolist() == [4] * 5
    assert np.array_equal(labels[few.ravel().astype(int)], kept)
    assert len(finite._limited(images, labels, None)[1]) == 200


@pytest.mark.parametrize(
    ("dataset", "ipc", "channels", "unscaled", "values", "cell"),
    [
        ("mnist", 1, 1, False, (1e-3, 8, 1e-3), "mnist ipc 1"),
        ("fashion_mnist", 50, 1, False, (1e-3, 2, 0), "fashion_mnist ipc 50"),
        ("svhn_cropped", 1, 3, False, (1e-3, 16, 0), "svhn ipc 1"),
        ("cifar10", 10, 3, False, (1e-3, 2, 0), "cifar10 ipc 10"),
        ("cifar100", 1, 3, False, (1e-1, 8, 0), "cifar100 ipc 1"),
        ("mnist", 10, 1, True, (1e-4, 1, 1e-3), "mnist ipc 10"),
        ("svhn", 10, 3, True, (1e-3, 1, 0), "svhn ipc 10"),
        # Not published:
        ("cifar100", 50, 3, False, (1e-1, 2, 0), "cifar100 ipc 10"),
        ("cifar10", 3, 3, False, (1e-3, 8, 0), "cifar10 ipc 1"),
        ("cifar10", 4, 3, False, (1e-3, 2, 0), "cifar10 ipc 10"),
        ("digits", 100, 1, False, (1e-2, 8, 0), "mnist ipc 50"),
        ("celeb_a", 1, 3, True, (1e-4, 1, 0), "cifar10 ipc 1"),
    ],
)
def test_published_values(dataset, ipc, channels, unscaled, values, cell):
    assert tuned(dataset, ipc, channels, unscaled) == (Tuned(*values), cell)


def test_given_values_win_over_published_ones():
    config, cell = with_tuned(FiniteConfig(learning_rate=0.5), "cifar10", 1, 3)
    assert (config.learning_rate, config.label_scale, config.weight_decay) == (0.5, 8, 0)
    assert cell == "cifar10 ipc 1"
    config, _ = with_tuned(FiniteConfig(width=256), "cifar10", 1, 3)
    assert config.learning_rate == 4e-3  # the published 1e-3 at width 1024
    config, _ = with_tuned(FiniteConfig(label_scale=1), "cifar10", 1, 3)
    assert (config.learning_rate, config.label_scale) == (1e-4, 1)  # the table searched at scale 1
    assert with_tuned(SET, "cifar10", 1, 3) == (SET, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [("loss", "hinge"), ("width", 0), ("learning_rate", -1.0), ("learning_rate", float("nan")),
     ("momentum", 1.0), ("label_scale", 0.0), ("weight_decay", -1e-3), ("valid_limit", 0)],
)  # fmt: skip
def test_wrong_settings_are_named(key, value):
    with pytest.raises(UserError, match=f"finite.{key}={value}"):
        FiniteConfig(**{key: value})


def test_an_empty_validation_set_is_refused():
    coreset = _coreset(4)
    images, labels = np.asarray(coreset.images), np.zeros(4, np.int32)
    with pytest.raises(UserError, match="validation"):
        evaluate_finite(SET, TINY, coreset, (images[:0], labels[:0]), (images, labels), "digits", 1)
