"""FRePo: the loss and its gradient, LAMB's step, labels, and RFAD as a limit."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.kernels.shares import ALONE
from distill_cli.methods import frepo, rfad
from distill_cli.methods.base import Setting, make_distiller
from distill_cli.methods.frepo_loss import margin_term, with_margin
from distill_cli.methods.frepo_pool import OnlineNetworks, Turn, take
from distill_cli.nets import build

SHAPE = (8, 8, 1)
CLASSES = 3
KEY = jax.random.key(0)
ZERO = jnp.zeros((), jnp.float64)


def toy(dtype=jnp.float32, coreset: int = 6, batch: int = 7) -> tuple[Coreset, Batch]:
    """Three classes, labels that are not one-hot, a batch with uneven weights."""
    rng = np.random.default_rng(0)
    labels = np.asarray(one_hot_centred(jnp.arange(coreset) % CLASSES, CLASSES))
    labels = labels + 0.1 * rng.normal(size=labels.shape)
    start = Coreset(jnp.asarray(rng.normal(size=(coreset, *SHAPE)), dtype),
                    jnp.asarray(labels, dtype), ZERO)  # fmt: skip
    images = jnp.asarray(rng.normal(size=(batch, *SHAPE)), dtype)
    weights = jnp.asarray(rng.uniform(0.5, 2, batch), dtype)
    return start, Batch(images, jnp.asarray(rng.integers(0, CLASSES, batch), jnp.int32), weights)


def networks(network="frepo_conv", norm="batch", most=5, late=False, **options) -> OnlineNetworks:
    net = build(network, CLASSES, SHAPE, norm=norm, **{"width": 4, "depth": 2, **options})
    return OnlineNetworks(net, SHAPE, 1e-2, most, late)


def distiller(learn=True, steps=100, micro=3, online=None, **options) -> frepo.FRePo:
    config = frepo.Config(**{"pool": 3, "label_scale": False, **options})
    return frepo.FRePo(config, online or networks(), learn, steps, micro, 2, config.ridge)


def value_and_grad(method, params, variables, batch):
    """Loss and gradient of a step with one network."""
    found = method.regression(params, variables, batch)
    return with_margin(params["labels"], *found) if method.config.margin else found


@cache
def train():
    """Variables of a network after two online steps, jitted."""
    return jax.jit(partial(networks().trained, updates=2))


@cache
def weights():
    """A network in float64, with running statistics that are not the initial ones."""
    return jax.tree.map(lambda a: a.astype(jnp.float64), train()(KEY, toy()[0]))


def test_loss_written_out_in_numpy():
    start, batch = toy(jnp.float64)
    method, variables = distiller(flip=True, ridge=1e-3), weights()
    x, y = np.asarray(start.images), np.asarray(start.labels)
    everything = np.concatenate([x, x[:, :, ::-1], np.asarray(batch.images)])
    features = jax.jit(partial(method.networks.features, variables))
    phi_s, phi_t = np.split(np.asarray(features(everything)), [12])
    y = np.concatenate([y, y])
    k = phi_s @ phi_s.T
    alpha = np.linalg.solve(k + 1e-3 * np.trace(k) / len(k) * np.eye(len(k)), y)
    targets = np.eye(CLASSES)[batch.labels] - 1 / CLASSES
    each = 0.5 * ((phi_t @ phi_s.T @ alpha - targets) ** 2).sum(1)
    ordered = np.sort(np.asarray(start.labels), 1)
    margin = np.minimum(ordered[:, -1] - ordered[:, -2], 1 / CLASSES).mean()
    params = {"images": start.images, "labels": start.labels}
    info, _ = jax.jit(partial(value_and_grad, method))(params, variables, batch)
    expected = (np.asarray(batch.weights) * each).mean() - margin
    assert float(info["loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(info["margin"]) == pytest.approx(margin, rel=1e-9)


@pytest.mark.parametrize("margin", [False, True])
def test_gradient_against_finite_differences_in_float64(margin):
    start, batch = toy(jnp.float64)
    method, variables = distiller(flip=True, margin=margin, ridge=1e-3), weights()
    # Small margins, so that the term is not constant.
    params = {"images": start.images, "labels": 0.2 * start.labels}
    run = jax.jit(partial(value_and_grad, method))
    _, grads = run(params, variables, batch)
    rng = np.random.default_rng(1)
    for name, value in params.items():
        for _ in range(3):
            direction = jnp.asarray(rng.normal(size=value.shape))
            step = 1e-5
            up, _ = run({**params, name: value + step * direction}, variables, batch)
            down, _ = run({**params, name: value - step * direction}, variables, batch)
            expected = float(up["loss"] - down["loss"]) / (2 * step)
            found = float(jnp.sum(grads[name] * direction))
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_regression_on_the_coreset_itself_gives_its_labels():
    """X_t = X_s and no ridge: the loss is that of Y_s, zero for the targets of the batch."""
    start, _ = toy(jnp.float64)
    hard = jnp.arange(6, dtype=jnp.int32) % CLASSES
    exact = one_hot_centred(hard, CLASSES).astype(jnp.float64)
    method = distiller(margin=False, ridge=1e-14)
    batch = Batch(start.images, hard, jnp.ones(6))
    params = {"images": start.images, "labels": exact}
    run = jax.jit(partial(value_and_grad, method))
    info, _ = run(params, weights(), batch)
    assert float(info["loss"]) < 1e-12
    assert float(info["accuracy"]) == 1
    info, _ = run({**params, "labels": exact + 0.5}, weights(), batch)
    assert float(info["loss"]) == pytest.approx(0.5 * CLASSES * 0.25, rel=1e-6)


def test_scale_of_the_features_does_not_matter():
    """The ridge is relative to the trace."""
    start, batch = toy(jnp.float64)
    variables = weights()
    body = variables["params"]["body"]
    last = {name: 7 * value for name, value in body["Conv_1"].items()}
    scaled = {**variables, "params": {**variables["params"], "body": {**body, "Conv_1": last}}}
    method = distiller(ridge=1e-2)
    params = {"images": start.images, "labels": start.labels}
    run = jax.jit(partial(value_and_grad, method))
    one, other = run(params, variables, batch), run(params, scaled, batch)
    assert float(one[0]["loss"]) == pytest.approx(float(other[0]["loss"]), rel=1e-9)
    np.testing.assert_allclose(one[1]["images"], other[1]["images"], rtol=1e-6, atol=1e-10)


def test_margin_term():
    """-1/C and flat where every label keeps its margin, as at the start; the mean gap below."""
    start = one_hot_centred(jnp.arange(20) % 10, 10)
    value, slope = jax.value_and_grad(margin_term)(start)
    assert float(value) == pytest.approx(-0.1, abs=1e-7)
    np.testing.assert_array_equal(slope, 0)
    labels = jnp.array([[0.3, 0.1, 0.0], [0.0, 2.0, 0.9], [0.0, -1.0, 0.05]])
    value, slope = jax.value_and_grad(margin_term)(labels)
    assert float(value) == pytest.approx(-(0.2 + 1 / 3 + 0.05) / 3)
    expected = np.array([[-1, 1, 0], [0, 0, 0], [1, 0, -1]]) / 3
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_with_a_fresh_network_it_is_rfads_gradient():
    """No online steps, no flip, no margin: RFAD with K = <Phi, Phi'>, times the classes, because
    RFAD's squared error is a mean over them."""
    pool = networks("convnet", "none", most=0)
    method = distiller(online=pool, margin=False, ridge=5e-3)
    start, batch = toy()
    assert bool(pool.worn(jnp.int32(0)))  # every member that was used is replaced
    variables = jax.jit(pool.fresh)(KEY).variables
    body = variables["params"]["body"]

    class Kernel(rfad.RandomFeatureKernel):
        scale = 1.0  # plain inner products of activations

        def sample_some(self, key, indices, loop=None):
            drawn = [(body[f"Conv_{i}"]["kernel"], body[f"Conv_{i}"]["bias"]) for i in range(2)]
            return jax.tree.map(lambda a: a[None], drawn)

    kernel = Kernel(replace(convnet(4, 2), bias_variance=0.0), SHAPE, 1)
    config = rfad.Config(ridge=5e-3, transform=False)
    other = rfad.RFAD(config, kernel, "mse", True, 3, 1, config.ridge)
    params = {"images": start.images, "labels": start.labels}
    info, gradient = jax.jit(partial(value_and_grad, method))(params, variables, batch)
    state, their_info = jax.jit(other.step)(other.init(KEY, start), batch, KEY)
    assert float(info["loss"]) == pytest.approx(CLASSES * float(their_info["loss"]), rel=1e-5)
    assert float(info["accuracy"]) == float(their_info["accuracy"])
    for name, mine in gradient.items():
        # The first moment after one step is 0.1 times the gradient.
        theirs = state.optimiser.inner_states[name].inner_state[0].mu[name] / 0.1
        np.testing.assert_allclose(mine, CLASSES * np.asarray(theirs), rtol=1e-3, atol=1e-6)


def test_lamb_moves_each_tensor_by_its_rate_along_the_cosine():
    """Without weight decay the trust ratio makes |step| = rate |tensor|; rate falls to a tenth."""
    rates = frepo.LearningRates(images=1e-2, labels=2e-3)
    optimiser = distiller(steps=2, learning_rates=rates).optimiser
    start, _ = toy()
    params = {"images": start.images, "labels": start.labels}
    gradient = jax.tree.map(jnp.cos, params)
    state, update = optimiser.init(params), jax.jit(optimiser.update)
    for factor in (1.0, 0.55, 0.1, 0.1):
        steps, state = update(gradient, state, params)
        for name, rate in vars(rates).items():
            moved = np.linalg.norm(steps[name]) / np.linalg.norm(params[name])
            assert moved == pytest.approx(factor * rate, rel=1e-3), (name, factor)
            assert float(jnp.sum(steps[name] * gradient[name])) < 0


def test_fixed_labels_stay_and_learned_ones_start_scaled():
    start, _ = toy()
    params = {"images": start.images, "labels": start.labels}
    optimiser = distiller(learn=False).optimiser
    steps, _ = jax.jit(optimiser.update)(params, optimiser.init(params), params)
    assert not steps["labels"].any() and steps["images"].all()
    scaled = distiller(label_scale=True)
    labels = scaled.start(start)["labels"]
    np.testing.assert_allclose(labels, np.asarray(start.labels) / np.sqrt(0.3), rtol=1e-6)
    ten = Coreset(start.images[:1], one_hot_centred(jnp.arange(1), 10), ZERO)
    np.testing.assert_array_equal(scaled.start(ten)["labels"], ten.labels)
    np.testing.assert_array_equal(distiller().start(start)["labels"], start.labels)


def test_micro_batches_do_not_change_the_gradient():
    start, batch = toy(jnp.float64)
    variables = weights()
    params = {"images": start.images, "labels": start.labels}
    whole, parts = (
        jax.jit(distiller(flip=True, micro=micro).regression)(params, variables, batch)[1]
        for micro in (100, 5)
    )
    for name in params:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-7, atol=1e-10)


def test_validation_is_the_loss_on_networks_trained_on_the_coreset():
    method = distiller(flip=True, ridge=1e-3, online=networks(most=4))
    start, batch = toy()
    score = method.validator(KEY, batch.images, batch.labels)(start)
    even = batch._replace(weights=jnp.ones_like(batch.weights))
    losses, hits = [], []
    params = {"images": start.images, "labels": start.labels}
    value = jax.jit(method.regression)
    for key in jax.random.split(KEY, 2):
        info, _ = value(params, train()(key, start), even)
        losses.append(float(info["loss"]))
        hits.append(float(info["accuracy"]))
    assert float(score["valid_loss"]) == pytest.approx(np.mean(losses), rel=1e-3)
    assert float(score["valid_accuracy"]) == pytest.approx(np.mean(hits), rel=1e-6)


def test_a_step_of_several_networks_is_the_mean_of_theirs_on_parts_of_the_batch():
    """Three of five networks, seven images: two parts of two, one image left out."""
    method = distiller(networks=3, pool=5, flip=True, ridge=1e-3, online=networks(most=2))
    start, batch = toy()
    key = jax.random.key(3)
    state = method.init(KEY, start)
    new, info = jax.jit(method.step)(state, batch, key)
    turn = Turn.draw(method.networks, key, 5, 3, ALONE)
    assert len(set(turn.indices.tolist())) == 3
    found, gradients = [], []
    for number, index in enumerate(turn.indices):
        part = Batch(*(x[: len(x) // 3 * 3][number::3] for x in batch))
        variables = take(state.pool, index).variables
        one, gradient = jax.jit(method.regression)(state.params, variables, part)
        found.append(float(one["loss"]))
        gradients.append(gradient)
        # Each made an online step on the new coreset, or was replaced.
        member = method.networks.maintain(
            take(state.pool, index), method.coreset(new), turn.keys[number]
        )
        for mine, theirs in zip(
            jax.tree.leaves(take(new.pool, index)), jax.tree.leaves(member), strict=True
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    assert float(info["loss"]) == pytest.approx(np.mean(found) - float(info["margin"]), rel=1e-5)
    for index in set(range(5)) - set(turn.indices.tolist()):
        jax.tree.map(np.testing.assert_array_equal, take(new.pool, index), take(state.pool, index))
    mean = jax.tree.map(lambda *parts: sum(parts) / 3, *gradients)
    _, mean = with_margin(start.labels, one, mean)
    updates, _ = method.optimiser.update(mean, state.optimiser, state.params)
    for name, value in optax.apply_updates(state.params, updates).items():
        np.testing.assert_allclose(new.params[name], value, rtol=1e-4, atol=1e-6)


def test_the_released_setting_of_cifar10():
    config = parse(compose("config", ["method=frepo", "dataset=cifar10", "ipc=10"]))
    m = config.method
    assert (m.network, m.width, m.depth, m.norm, m.pool) == ("frepo_conv", None, None, "batch", 10)
    assert (m.online_updates, m.online_rate, m.ridge) == (100, 3e-4, 1e-6)
    assert (m.flip, m.margin, m.label_scale, m.final_rate) == (True, True, True, 0.1)
    assert vars(m.learning_rates) == {"images": 3e-4, "labels": 3e-4}
    assert (config.batch.size, config.batch.number, config.steps) == (1024, 1, 500000)
    assert (config.loss, config.labels, config.preprocess.name) == ("mse", "learned", "frepo")
    method = make_distiller(Setting(config, convnet(4, 1), (32, 32, 3), 10, 64))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(method.networks.net.init, KEY, image)
    assert sum(a.size for a in jax.tree.leaves(variables["params"])) == 1_561_610
    # 154.5 million multiply-adds an image; borders, where the window leaves the image, less.
    per_image = method.flops(1024, 100) / (1024 + 3 * 200 + 3 * 100)
    assert 0.85 * 2 * 154.5e6 < per_image < 1.02 * 2 * 154.5e6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["loss=platt"], "loss=platt: method=frepo needs loss=mse"),
        (["kernel=nngp"], "kernel=nngp: method=frepo needs kernel=random_features"),
        (["method.network=conv4"], "network=conv4: unknown"),
        (["method.norm=bath"], "norm=bath: unknown"),
        (["method.ridge=0"], "method.ridge=0"),
        (["method.pool=0"], "method.pool=0"),
        (["method.networks=0"], "method.networks=0: must lie in [1, 10]"),
        (["method.networks=11"], "method.networks=11: must lie in [1, 10]"),
        (
            ["method.networks=9", "batch.size=8"],
            "method.networks=9: must be at most the batch's images, 8",
        ),
    ],
)
def test_what_is_refused(options, words):
    def make():
        config = parse(compose("config", ["method=frepo", "dataset=cifar10", *options]))
        make_distiller(Setting(config, convnet(4, 1), (32, 32, 3), 10, 64))

    with pytest.raises(UserError) as error:
        make()
    assert words in str(error.value)
