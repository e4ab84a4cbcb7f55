"""Every method takes two steps from every initialiser's set, and on every sampler's batches."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import component, group_choices, parse, plain
from distill_cli.core.types import Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.init.base import Request, initialise
from distill_cli.methods.base import Setting, make_distiller
from distill_cli.train.samplers.base import make_sampler
from sampler_problem import IMAGES, LABELS, SHAPE, training

INITS = sorted({*group_choices("init")} - {"full", "coreset"})
METHODS = sorted({*group_choices("method")} - {"full", "random"})  # those that have steps
SIZES = {
    "rfad": ["kernel.networks=2"],
    "frepo": ["method.width=4", "method.pool=2", "method.depth=1"],
    "kip": ["architecture=fully_connected", "architecture.depth=1"],
    "label_solve": ["architecture=fully_connected", "architecture.depth=1"],
    **{name: ["method.width=4", "method.depth=1"] for name in ("dc", "dsa", "dm")},
}
IPC, CLASSES = 2, 3
ARCHITECTURE = convnet(4, 1)


def parsed(method: str, *options: str):
    sizes = ["batch.size=12", "batch.number=1", "steps=2", *SIZES[method]]
    labels = [] if method in ("rfad", "kip", "label_solve", "frepo") else ["labels=fixed"]
    return parse(compose("config", [f"method={method}", *sizes, *labels, *options]))


def setting(config) -> Setting:
    exact = config.kernel.name != "random_features"
    module = importlib.import_module(f"distill_cli.arch.{config.architecture.name}")
    architecture = module.build(config.architecture) if exact else ARCHITECTURE
    return Setting(config, architecture, SHAPE, CLASSES, 8)


@pytest.fixture(scope="module")
def starts() -> dict[str, Coreset]:
    """What each initialiser gives, made once for all methods."""
    request = Request(IMAGES, LABELS, IPC, CLASSES, 0, ARCHITECTURE, 16)
    found = {}
    for name in INITS:
        tree = plain(compose("config", [f"init={name}"]))["init"]
        images = initialise(component("init", tree), request).images
        assert images.shape == (IPC * CLASSES, *SHAPE), name
        targets = one_hot_centred(jnp.repeat(jnp.arange(CLASSES), IPC), CLASSES)
        found[name] = Coreset(jnp.asarray(images), targets, jnp.zeros((), jnp.float64))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_start(method, starts):
    config = parsed(method)
    distiller = make_distiller(setting(config))
    train, step = training(), jax.jit(distiller.step)
    sampler = make_sampler(config, distiller)
    first = distiller.init(jax.random.key(0), jax.tree.map(jnp.copy, starts["random"]))
    batch = sampler.draw(sampler.init(train), train, first, jax.random.key(3))
    for name, start in starts.items():
        state = distiller.init(jax.random.key(0), jax.tree.map(jnp.copy, start))
        for key in jax.random.split(jax.random.key(1)):
            state, info = step(state, batch, key)
            assert all(np.isfinite(value) for value in info.values()), name
        assert all(np.isfinite(part).all() for part in distiller.coreset(state)), name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", group_choices("sampler"))
def test_every_sampler(method, sampler, starts):
    if (method == "label_solve") != (sampler == "sequential"):  # they need one another
        with pytest.raises(UserError, match=f"sampler={sampler}: method={method} needs"):
            parsed(method, f"sampler={sampler}")
        return
    config = parsed(method, f"sampler={sampler}")
    distiller = make_distiller(setting(config))
    train = training()
    draws = make_sampler(config, distiller)
    state = distiller.init(jax.random.key(0), jax.tree.map(jnp.copy, starts["random"]))
    sampling, step = draws.init(train), jax.jit(distiller.step)
    for number in range(2):
        key = jax.random.fold_in(jax.random.key(5), number)
        if draws.refresh:
            sampling, _ = draws.update(sampling, train, state, key)
        batch = draws.draw(sampling, train, state, key)
        assert np.isfinite(batch.weights).all() and (np.asarray(batch.weights) >= 0).all()
        state, info = step(state, batch, key)
        assert all(np.isfinite(value) for value in info.values())


@pytest.mark.parametrize("method", ["rfad", "kip", "frepo", "label_solve"])
def test_equal_ridge_weights_change_nothing(method, starts):
    """Weights of 1 give the scores that the plain ridge gives, others do not."""
    config = parsed(method)
    base = setting(config)

    def score(weights):
        distiller = make_distiller(dataclasses.replace(base, ridge_weights=weights))
        validator = distiller.validator(
            jax.random.key(2), jnp.asarray(IMAGES), jnp.asarray(LABELS, jnp.int32)
        )
        return float(validator(starts["random"])["valid_loss"])

    ones = np.ones(IPC * CLASSES)
    assert score(ones) == pytest.approx(score(None), rel=1e-9)
    assert score(1e6 * np.arange(1, 7)) != pytest.approx(score(None), rel=1e-3)
