"""The random-feature kernel: distribution, convergence to the exact kernel, bounded memory."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import AvgPool, Conv, convnet, feature_shape, fully_connected
from distill_cli.core.coreset_io import load_coreset
from distill_cli.kernels.exact import gram
from distill_cli.kernels.random_features import (
    RandomFeatureKernel,
    average_pool,
    network_features,
    sample_network,
)

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(7, 8, 8, 2)).astype(np.float32)


def kernel_matrix(architecture, networks: int, seed: int, images=IMAGES) -> np.ndarray:
    kernel = RandomFeatureKernel(architecture, images.shape[1:], networks)
    phi = kernel.features(kernel.sample(jax.random.key(seed)), jnp.asarray(images))
    return np.asarray(kernel.gram(phi, phi), np.float64)


def numpy_features(architecture, params, images: np.ndarray) -> np.ndarray:
    """The same network written out with loops, in float64."""
    x = images.astype(np.float64)
    weights = iter([(np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in params])
    for layer in architecture.layers:
        if isinstance(layer, Conv):
            w, b = next(weights)
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            h, v = x.shape[1:3]
            x = b + sum(
                padded[:, i : i + h, j : j + v] @ w[i, j] for i in range(3) for j in range(3)
            )
        elif isinstance(layer, AvgPool):
            h, v = x.shape[1] // 2, x.shape[2] // 2
            x = x[:, : 2 * h, : 2 * v].reshape(len(x), h, 2, v, 2, -1).mean((2, 4))
        elif type(layer).__name__ == "Relu":
            x = np.maximum(x, 0)
        elif type(layer).__name__ == "Dense":
            w, b = next(weights)
            x = x @ w + b
        else:
            x = x.reshape(len(x), -1)
    return x


@pytest.mark.parametrize(
    "architecture", [convnet(5, 2), convnet(3, 2, (2, 1)), fully_connected(6, 2)]
)
@pytest.mark.parametrize("size", [8, 7])
def test_forward_pass_against_numpy(architecture, size):
    images = IMAGES[:, :size, :size]
    params = sample_network(architecture, jax.random.key(0), images.shape[1:])
    found = network_features(architecture, params, jnp.asarray(images))
    np.testing.assert_allclose(found, numpy_features(architecture, params, images), atol=2e-5)
    assert found.shape[1:] == feature_shape(architecture, images.shape[1:])


def test_parameters_have_the_stated_variances():
    params = sample_network(convnet(256, 2), jax.random.key(0), (8, 8, 3))
    for (weight, bias), fan_in in zip(params, (27, 9 * 256), strict=True):
        assert float(weight.var()) == pytest.approx(2 / fan_in, rel=0.05)
        assert float(bias.var()) == pytest.approx(0.01, rel=0.35)
        assert weight.dtype == bias.dtype == jnp.float32


def test_error_falls_like_one_over_root_of_networks_times_channels():
    """Mean squared error against the exact NNGP, over seeds: 16 times the networks, 1/16 of it."""
    exact = gram(convnet(16, 2), IMAGES, get=("nngp",))["nngp"]

    def error(width: int, networks: int) -> float:
        kernel = RandomFeatureKernel(convnet(width, 2), IMAGES.shape[1:], networks)

        @jax.jit
        def matrix(key):
            phi = kernel.features(kernel.sample(key), jnp.asarray(IMAGES))
            return kernel.gram(phi, phi)

        found = [matrix(jax.random.key(seed)) for seed in range(16)]
        return float(np.mean([(np.asarray(k) - exact) ** 2 for k in found]))

    base = error(8, 2)
    assert error(8, 32) / base == pytest.approx(1 / 16, rel=0.6)
    assert error(32, 2) / base == pytest.approx(1 / 4, rel=0.6)
    assert error(32, 32) / base == pytest.approx(1 / 64, rel=0.6)


def test_diagonal_on_the_released_coreset(oracle_coreset):
    images = jnp.asarray(load_coreset(oracle_coreset).coreset.images)
    kernel = RandomFeatureKernel(convnet(32, 3), images.shape[1:], 16)

    @jax.jit
    def mean_diagonal(key):
        phi = kernel.features(kernel.sample(key), images)
        return jnp.trace(kernel.gram(phi, phi)) / 10

    found = [float(mean_diagonal(jax.random.key(seed))) for seed in range(24)]
    error = np.std(found) / np.sqrt(len(found) - 1)
    assert error < 0.015
    assert np.mean(found) == pytest.approx(0.33765, abs=3 * error)


@pytest.mark.parametrize("micro", [1, 3, 7, 100])
def test_micro_batches_change_nothing(micro):
    kernel = RandomFeatureKernel(convnet(6, 2), IMAGES.shape[1:], 3)
    networks = kernel.sample(jax.random.key(1))
    whole = kernel.features(networks, jnp.asarray(IMAGES))
    cut = jax.jit(partial(kernel.features, micro=micro))(networks, jnp.asarray(IMAGES))
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_features_are_the_networks_side_by_side():
    kernel = RandomFeatureKernel(convnet(6, 2), IMAGES.shape[1:], 3)
    networks = kernel.sample(jax.random.key(1))
    phi = kernel.features(networks, jnp.asarray(IMAGES))
    one = jax.tree.map(lambda leaf: leaf[1], networks)
    second = network_features(kernel.architecture, one, jnp.asarray(IMAGES))
    np.testing.assert_allclose(
        phi[:, kernel.dim : 2 * kernel.dim], second / np.sqrt(3 * kernel.dim), atol=1e-6
    )
    different = jax.tree.map(lambda leaf: not np.array_equal(leaf[0], leaf[1]), networks)
    assert all(jax.tree.leaves(different))


def test_gram_is_symmetric_and_positive_semi_definite():
    found = kernel_matrix(convnet(8, 2), 2, 0)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert np.linalg.eigvalsh(found).min() > -1e-6


def test_pooling_drops_the_odd_edge():
    x = jnp.arange(9.0, dtype=jnp.float32).reshape(1, 3, 3, 1)
    np.testing.assert_allclose(average_pool(x).ravel(), [np.mean([0, 1, 3, 4])])


def test_temporary_memory_is_bounded_by_micro_not_by_the_batch():
    """What XLA allocates for features and their gradient grows with micro, not with the batch."""
    kernel = RandomFeatureKernel(convnet(32, 2), (16, 16, 1), 2)
    networks = kernel.sample(jax.random.key(0))

    def temporaries(batch: int, micro: int) -> int:
        shape = jax.ShapeDtypeStruct((batch, 16, 16, 1), jnp.float32)
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(kernel.features(networks, x, micro) ** 2)))
        return gradient.lower(shape).compile().memory_analysis().temp_size_in_bytes

    output = 4 * (1024 - 256) * 2 * kernel.dim * 4  # Phi itself, in at most four copies
    assert temporaries(1024, 16) - temporaries(256, 16) <= output
    assert temporaries(1024, 512) > 4 * temporaries(1024, 16)


@pytest.mark.gpu
def test_accelerator_agrees_with_cpu():
    """The same networks and images on both: float32 with the accelerator's default precision."""
    kernel = RandomFeatureKernel(convnet(32, 2), IMAGES.shape[1:], 3)
    networks = kernel.sample(jax.random.key(0))
    found = jax.jit(kernel.features)(networks, jnp.asarray(IMAGES))
    with jax.default_device(jax.devices("cpu")[0]):
        host = jax.tree.map(np.asarray, networks)
        expected = kernel.features(host, jnp.asarray(IMAGES))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)


def test_arithmetic_changes_features_by_its_rounding_only():
    """bfloat16 has 8 bits: errors of about 1/256 of a feature; sums and results stay float32."""
    kernel = RandomFeatureKernel(convnet(32, 2), IMAGES.shape[1:], 2, "float32")
    params, x = kernel.sample(jax.random.key(0)), jnp.asarray(IMAGES)
    exact = np.asarray(kernel.by_network(params, x))
    for arithmetic, within in (("tf32", 2e-3), ("bfloat16", 2e-2)):
        found = replace(kernel, arithmetic=arithmetic).by_network(params, x)
        assert found.dtype == jnp.float32
        assert 0 <= np.abs(np.asarray(found) - exact).max() < within * np.abs(exact).max()
    assert np.abs(np.asarray(found) - exact).max() > 1e-4 * np.abs(exact).max()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="layouts of a CPU")
def test_convolutions_of_the_gradient_have_the_layout_that_is_fast_in_loops():
    """Networks run in a loop, where XLA computes other layouts by scalar code, far slower."""
    kernel = RandomFeatureKernel(convnet(8, 2), (8, 8, 2), 3)
    networks = kernel.sample(jax.random.key(0))

    def pull(images, towards):
        return jax.vjp(lambda x: kernel.features(networks, x, 4), images)[1](towards)[0]

    towards = jnp.ones((7, 3 * kernel.dim), jnp.float32)
    text = jax.jit(pull).lower(jnp.asarray(IMAGES), towards).compile().as_text()
    layouts = re.findall(r"dim_labels=(\S+?),? ", text)
    assert len(layouts) >= 3 and set(layouts) == {"b01f_01io->b01f"}
