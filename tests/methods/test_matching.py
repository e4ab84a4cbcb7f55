"""Gradient and mean matching against NumPy, finite differences, and what must vanish."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.methods import dc, dm, dsa, matching
from distill_cli.methods.base import Setting, make_distiller

SHAPE, CLASSES, IPC = (8, 8, 1), 2, 2
KEY = jax.random.key(0)
MAKE = {"dc": dc.make, "dsa": dsa.make, "dm": dm.make}


def setting(method: str, *options: str, ipc: int = IPC, micro: int = 3) -> Setting:
    width = "method.width=4"
    config = parse(compose("config", [f"method={method}", f"ipc={ipc}", width, *options]))
    return Setting(config, convnet(4, 1), SHAPE, CLASSES, micro)


def coreset(seed: int = 0) -> Coreset:
    images = np.random.default_rng(seed).normal(size=(CLASSES * IPC, *SHAPE))
    labels = one_hot_centred(jnp.repeat(jnp.arange(CLASSES), IPC), CLASSES)
    return Coreset(jnp.asarray(images, jnp.float32), labels, jnp.zeros((), jnp.float64))


def batch(labels=(0, 1, 1, 0, 1, 0, 0), seed: int = 1) -> Batch:
    images = np.random.default_rng(seed).normal(size=(len(labels), *SHAPE)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(labels, jnp.int32), jnp.ones(len(labels)))


def tree(seed: int = 0) -> dict:
    """A gradient: a convolution, its bias, a layer norm over whole maps, a fully connected one."""
    rng = np.random.default_rng(seed)
    shapes = {"conv": (3, 3, 2, 5), "bias": (5,), "norm": (4, 4, 5), "dense": (7, 3)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def numpy_rows(real: dict, synthetic: dict) -> float:
    """The published distance, with every weight as (out, the rest) and a loop over rows."""
    order = {"conv": (3, 2, 0, 1), "norm": (2, 0, 1), "dense": (1, 0)}
    total = 0.0
    for name, axes in order.items():
        a, b = (
            np.asarray(side[name], np.float64)
            .transpose(axes)
            .reshape(side[name].shape[axes[0]], -1)
            for side in (real, synthetic)
        )
        for row_a, row_b in zip(a, b, strict=True):
            cosine = row_a @ row_b / (np.linalg.norm(row_a) * np.linalg.norm(row_b) + 1e-6)
            total += 1 - cosine
    return total


def test_distance_against_numpy():
    one, other = tree(0), tree(1)
    got = matching.gradient_distance("rows", one, other)
    assert float(got) == pytest.approx(numpy_rows(one, other), rel=1e-12)


def test_distance_of_equal_and_opposite_gradients():
    """0 and 2 per row: 5 filters, 5 channels of the norm, 3 outputs; biases count nothing."""
    one = tree()
    opposite = jax.tree.map(lambda leaf: -leaf, one)
    other_bias = one | {"bias": tree(1)["bias"]}
    for kind in matching.DISTANCES:
        assert float(matching.gradient_distance(kind, one, one)) == pytest.approx(0, abs=1e-5)
    assert float(matching.gradient_distance("rows", one, opposite)) == pytest.approx(26, abs=1e-4)
    assert float(matching.gradient_distance("rows", one, other_bias)) == pytest.approx(0, abs=1e-5)
    assert float(matching.gradient_distance("cosine", one, opposite)) == pytest.approx(2, abs=1e-4)
    assert float(matching.gradient_distance("squared", one, other_bias)) > 1


def test_distance_at_a_dead_filter_has_a_derivative():
    dead = tree() | {"conv": tree()["conv"].at[..., 2].set(0)}
    slope = jax.grad(lambda g: matching.gradient_distance("rows", tree(1), g))(dead)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_real_images_of_a_class():
    given = batch()
    for label, count in ((0, 4), (1, 3)):
        real = matching.real_images(given, jnp.int32(label), 4)
        of_class = np.asarray(given.images)[np.asarray(given.labels) == label]
        np.testing.assert_array_equal(real.images[:count], of_class)
        np.testing.assert_allclose(real.weights, [1 / count] * count + [0] * (4 - count), rtol=1e-6)
        assert float(real.present) == 1
    nothing = matching.real_images(given, jnp.int32(5), 4)
    assert float(nothing.present) == 0
    assert not np.any(nothing.weights)


def test_pieces_sum_up():
    x, w = jnp.arange(7.0).reshape(7, 1, 1, 1), jnp.arange(7.0)
    whole = jnp.sum(x[:, 0, 0, 0] * w)
    for micro in (1, 2, 3, 7, 9):
        got = matching.summed_in_pieces(lambda x, w: jnp.sum(x[:, 0, 0, 0] * w), micro, x, w)
        assert float(got) == float(whole)


def test_dm_loss_against_numpy():
    method = dm.make(setting("dm", "method.augmentation=none"))
    params = matching.fresh(method.net, KEY, SHAPE)
    start, given = coreset(), batch()
    info, gradient = jax.jit(method.value_and_grad)(start.images, params, given, KEY)

    def phi(images):
        return np.asarray(method.features(params, images), np.float64)

    both = phi(jnp.concatenate([given.images, start.images]))
    real, synthetic = both[:7], both[7:]
    labels = np.asarray(given.labels)
    loss = sum(
        ((real[labels == c].mean(0) - synthetic[c * IPC : (c + 1) * IPC].mean(0)) ** 2).sum()
        for c in range(CLASSES)
    )
    assert float(info["loss"]) == pytest.approx(loss / CLASSES, rel=1e-5)

    def summed(images):
        return CLASSES * method.value_and_grad(images, params, given, KEY)[0]["loss"]

    np.testing.assert_allclose(gradient, jax.jit(jax.grad(summed))(start.images), atol=1e-6)


@pytest.mark.parametrize("name", ["dc", "dm"])
def test_nothing_to_do_when_the_coreset_is_the_batch(name):
    method = MAKE[name](setting(name, "method.augmentation=none"))
    start = coreset()
    given = Batch(start.images, jnp.repeat(jnp.arange(CLASSES), IPC), jnp.ones(CLASSES * IPC))
    params = matching.fresh(method.net, KEY, SHAPE)
    info, gradient = jax.jit(method.value_and_grad)(start.images, params, given, KEY)
    other, _ = jax.jit(method.value_and_grad)(coreset(5).images, params, given, KEY)
    # Not quite 0 for dc: the constant in the cosine's denominator.
    assert float(info["loss"]) < 1e-3 * float(other["loss"])
    assert float(jnp.abs(gradient).max()) < 1e-3


@pytest.mark.parametrize(
    ("network", "norm"), [("convnet", "none"), ("convnet", "instance"), ("mlp", "none")]
)
def test_dc_gradient_against_differences(network, norm):
    """The second-order gradient, through convolve's own derivative, norm and pooling."""
    options = (f"method.network={network}", f"method.norm={norm}")
    # squared: the cosine's rows of small norm make differences in float32 too noisy.
    method = dc.make(setting("dc", *options, "method.distance=squared"))
    params = matching.fresh(method.net, KEY, SHAPE)
    images, given = coreset().images, batch()
    run = jax.jit(lambda x: method.value_and_grad(x, params, given, KEY))
    gradient = run(images)[1]
    direction = gradient / jnp.linalg.norm(gradient)
    slope = float(jnp.vdot(gradient, direction))
    h = 2e-2
    both = [CLASSES * float(run(images + s * h * direction)[0]["loss"]) for s in (1, -1)]
    assert (both[0] - both[1]) / (2 * h) == pytest.approx(slope, rel=0.03)


@pytest.mark.parametrize("name", ["dsa", "dm"])
def test_a_class_that_is_not_in_the_batch_stays_as_it_is(name):
    method = MAKE[name](setting(name, "method.augmentation=color"))
    params = matching.fresh(method.net, KEY, SHAPE)
    given = batch(labels=(1, 1, 1))
    info, gradient = jax.jit(method.value_and_grad)(coreset().images, params, given, KEY)
    assert not np.any(gradient[:IPC])
    assert np.any(gradient[IPC:])
    assert np.isfinite(info["loss"])


def test_micro_batches_change_nothing():
    one, other = (dc.make(setting("dc", micro=micro)) for micro in (2, 100))
    params = matching.fresh(one.net, KEY, SHAPE)
    given = coreset().images, params, batch(), KEY
    results = [jax.jit(m.value_and_grad)(*given)[1] for m in (one, other)]
    np.testing.assert_allclose(*results, atol=1e-4)


def test_the_loop_of_networks():
    """A new network every `outer` steps, trained between them, and momentum on the images."""
    method = dc.make(setting("dc", "method.network=mlp", "method.outer=2", "method.inner=3"))
    step, value_and_grad = jax.jit(method.step), jax.jit(method.value_and_grad)
    state = method.init(KEY, coreset())
    assert int(state.place) == 0
    keys = [jax.random.key(i) for i in range(3)]
    one, _ = step(state, batch(), keys[0])
    two, _ = step(one, batch(), keys[1])
    assert [int(s.place) for s in (one, two)] == [1, 0]
    net_key, match_key, _ = jax.random.split(keys[0], 3)
    params = matching.fresh(method.net, net_key, SHAPE)
    gradient = value_and_grad(state.images, params, batch(), match_key)[1]
    np.testing.assert_allclose(one.images, state.images - 0.1 * gradient, atol=1e-5)
    # The network of the second step is the first one, after 3 full-batch steps on the new images.
    labels = jnp.repeat(jnp.arange(CLASSES), IPC)
    for _ in range(3):

        def loss(p):
            return matching.cross_entropy(method.net, p, one.images, labels, jnp.full(4, 0.25))[0]

        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.jit(jax.grad(loss))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.params, params)
    # Its last step leaves it alone, and moves on from the velocity.
    jax.tree.map(np.testing.assert_array_equal, two.params, one.params)
    match_key = jax.random.split(keys[1], 3)[1]
    (moved,) = jax.tree.leaves(one.optimiser)  # SGD's momentum
    velocity = 0.5 * moved + method.value_and_grad(one.images, one.params, batch(), match_key)[1]
    np.testing.assert_allclose(two.images, one.images - 0.1 * velocity, atol=1e-5)


def test_inner_epochs_visit_every_image_once():
    method = replace(dc.make(setting("dc", "method.network=mlp")), inner=1)
    method = replace(method, config=replace(method.config, network_batch=3, network_rate=0.5))
    params = matching.fresh(method.net, KEY, SHAPE)
    labels = jnp.repeat(jnp.arange(CLASSES), IPC)
    trained = jax.jit(method.trained)(params, coreset().images, labels, KEY)
    order = jax.random.permutation(
        jax.random.fold_in(jax.random.split(KEY)[0], 0), jnp.arange(4, dtype=jnp.int32)
    )
    for rows in (order[:3], order[3:]):

        def loss(p, rows=rows):
            x, w = coreset().images[rows], jnp.full(len(rows), 1 / len(rows), jnp.float32)
            return matching.cross_entropy(method.net, p, x, labels[rows], w)[0]

        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.jit(jax.grad(loss))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), trained, params)


def test_loops():
    assert [dc.loops(ipc) for ipc in dc.LOOPS] == list(dc.LOOPS.values())
    assert dc.loops(100) == dc.loops(51) == (50, 10)
    assert dc.loops(15) == (15, 38)
    outers = [dc.loops(ipc)[0] for ipc in range(1, 60)]
    assert outers == [min(ipc, 50) for ipc in range(1, 60)]
    assert all(dc.loops(ipc)[1] >= 1 for ipc in range(1, 60))


def test_published_settings():
    config = parse(compose("config", ["method=dc", "dataset=cifar10", "ipc=10"]))
    assert (config.init.name, config.preprocess.name, config.steps) == ("noise", "dc", 10000)
    assert (config.batch.size, config.sampler.balanced) == (2560, True)
    assert list(config.evaluation.protocols) == ["dc"]
    method = config.method
    assert (method.learning_rate, method.momentum, method.network_rate) == (0.1, 0.5, 0.01)
    config = parse(compose("config", ["method=dsa", "dataset=cifar10", "init=noise"]))
    assert (config.init.name, config.method.augmentation) == ("noise", "auto")
    config = parse(compose("config", ["method=dm", "dataset=cifar100", "ipc=10"]))
    assert (config.batch.size, config.method.learning_rate, config.steps) == (25600, 1.0, 20000)
    assert (config.init.name, config.validation.keep) == ("random", "last")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("dc", "method.norm=batch"), "method.norm=batch"),
        (("dc", "method.distance=angle"), "method.distance=angle"),
        (("dm", "method.augmentation=color_spin"), "method.augmentation=spin"),
        (("dm", "method.momentum=1.0"), "method.momentum=1.0"),
        (("dc", "method.outer=0"), "method.outer=0"),
        (("dc", "method.network=convnett"), "network=convnett"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(UserError, match=message):
        make_distiller(setting(*options))
