"""Networks by themselves, summed in order, against the concatenated features and their autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet, fully_connected
from distill_cli.kernels.ensemble import Ensemble
from distill_cli.kernels.random_features import RandomFeatureKernel

RNG = np.random.default_rng(0)
SHAPE = (6, 6, 2)


@pytest.mark.parametrize("architecture", [convnet(5, 1), fully_connected(7, 2)])
@pytest.mark.parametrize("micro", [None, 2, 3])
def test_kernel_and_gradients_against_autodiff(architecture, micro):
    """In float64: K(x, z) and the gradient of a weighted sum of it in x and z, by JAX through all
    networks at once."""
    kernel = RandomFeatureKernel(architecture, SHAPE, 3)
    ensemble = Ensemble(kernel)
    x, z = (jnp.asarray(RNG.normal(size=(n, *SHAPE))) for n in (4, 5))
    weights = jnp.asarray(RNG.normal(size=(4, 5)))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), ensemble.sample(jax.random.key(0)))

    def at_once(x, z):
        return kernel.gram(kernel.features(params, x), kernel.features(params, z))

    def apart(x, z):
        return ensemble.gram(*(ensemble.features(params, images, micro) for images in (x, z)))

    np.testing.assert_allclose(apart(x, z), at_once(x, z), rtol=1e-12)
    found, expected = (
        jax.grad(lambda x, z, gram=gram: jnp.sum(weights * gram(x, z)), (0, 1))(x, z)
        for gram in (apart, at_once)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_network_depends_on_key_and_number_alone():
    kernel = RandomFeatureKernel(convnet(5, 1), SHAPE, 4)
    every = kernel.sample(jax.random.key(1))
    two = kernel.sample_some(jax.random.key(1), jnp.array([3, 1]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[jnp.array([3, 1])], b), every, two)
