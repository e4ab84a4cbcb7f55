"""Networks by themselves, summed in order, against the concatenated features and their autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet, fully_connected
from distill_cli.kernels import ensemble as ensemble_module
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


@pytest.mark.parametrize("unrolled", [0, 2**30])
def test_an_accelerators_path_against_autodiff(monkeypatch, unrolled):
    """Written out or in loops, networks drawn at once, and the kernel matrix of the coreset with
    itself by a derivative of its own: in float64, against all networks at once."""
    monkeypatch.setattr(ensemble_module, "_on_cpu", lambda: False)
    monkeypatch.setattr(ensemble_module, "WRITTEN_OUT_BYTES", unrolled)
    kernel = RandomFeatureKernel(convnet(5, 1), SHAPE, 3)
    ensemble = Ensemble(kernel)
    drawn = ensemble.sample(jax.random.key(0))
    one_by_one = kernel.sample(jax.random.key(0))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), drawn, one_by_one)
    params = jax.tree.map(lambda p: p.astype(jnp.float64), drawn)
    x, z = (jnp.asarray(RNG.normal(size=(n, *SHAPE))) for n in (4, 5))
    weights, own = (jnp.asarray(RNG.normal(size=(n, 5))) for n in (4, 5))

    def value(x, z, features, gram):
        h_x, h_z = features(x), features(z)
        return jnp.sum(weights * gram(h_x, h_z)) + jnp.sum(own * gram(h_z, h_z))

    def apart(x, z):
        return value(x, z, lambda images: ensemble.features(params, images, 2), ensemble.gram)

    def at_once(x, z):
        return value(x, z, lambda images: kernel.features(params, images), kernel.gram)

    (a, found), (b, expected) = (
        jax.value_and_grad(function, (0, 1))(x, z) for function in (apart, at_once)
    )
    np.testing.assert_allclose(a, b, rtol=1e-12)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_networks_are_a_loop_on_a_cpu_and_written_out_elsewhere(monkeypatch, on_cpu):
    """Outside a loop a CPU's convolutions are slower and round otherwise."""
    monkeypatch.setattr(ensemble_module, "_on_cpu", lambda: on_cpu)

    def convolutions(networks: int) -> int:
        ensemble = Ensemble(RandomFeatureKernel(convnet(5, 2), SHAPE, networks))
        params = jax.eval_shape(ensemble.sample, jax.random.key(0))

        def total(params, x):
            h = ensemble.features(params, x, None)
            return jnp.sum(ensemble.gram(h, h))

        x = jax.ShapeDtypeStruct((4, *SHAPE), jnp.float32)
        compiled = jax.jit(jax.grad(total, 1)).lower(params, x).compile()
        return compiled.as_text().count(" convolution(")

    assert (convolutions(2) == convolutions(5)) is on_cpu


def test_a_network_depends_on_key_and_number_alone():
    kernel = RandomFeatureKernel(convnet(5, 1), SHAPE, 4)
    every = kernel.sample(jax.random.key(1))
    two = kernel.sample_some(jax.random.key(1), jnp.array([3, 1]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[jnp.array([3, 1])], b), every, two)
