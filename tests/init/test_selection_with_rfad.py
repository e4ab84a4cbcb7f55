"""Selected images as the start of a method: every initialiser, two steps of RFAD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_selection import IMAGES, LABELS, SELECTING, config, request

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.keys import named_key, step_key
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.init.base import initialise
from distill_cli.init.features import step_zero_features
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.methods.base import Setting, make_distiller


def test_the_methods_features_are_those_of_rfads_first_step():
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


@pytest.fixture(scope="module")
def two_steps():
    """Two steps of RFAD from an initial set, compiled once for all of them."""
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
