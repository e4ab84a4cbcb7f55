"""The fused first block, in Pallas' interpreter, against NumPy and against XLA's path."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import conv_vec, convnet, fully_connected
from distill_cli.errors import UserError
from distill_cli.kernels import fused_block
from distill_cli.kernels.random_features import RandomFeatureKernel, arithmetic_of, fused_of

RNG = np.random.default_rng(0)


def written_out(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """[conv, bias, ReLU, average pool] with loops over the window, float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    n, h, w = x.shape[:3]
    y = sum(padded[:, i : i + h, j : j + w] @ weight[i, j] for i in range(3) for j in range(3))
    y = np.maximum(y + bias, 0)[:, : h // 2 * 2, : w // 2 * 2]
    return y.reshape(n, h // 2, 2, w // 2, 2, -1).mean((2, 4))


@pytest.mark.parametrize("shape", [(5, 8, 8, 3), (3, 7, 10, 1), (1, 2, 2, 5)])
@pytest.mark.parametrize("width", [16, 256])
def test_block_against_numpy(shape, width):
    x = RNG.normal(size=shape).astype(np.float32)
    weight, bias = RNG.normal(size=(3, 3, shape[3], width)), RNG.normal(size=width)
    patches = fused_block.cut_patches(jnp.asarray(x), jnp.float32)
    assert patches.shape[0] % fused_block.ROWS == 0
    place = (shape[0], shape[1] // 2, shape[2] // 2)
    found = fused_block.first_block(
        patches, jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32), place
    )
    np.testing.assert_allclose(found, written_out(x, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("arithmetic", "within"), [("tf32", 2e-6), ("bfloat16", 1e-2)])
def test_features_fused_or_not(arithmetic, within):
    """Micro-batches that do not divide the images, too; errors relative to the largest feature."""
    kernel = RandomFeatureKernel(convnet(16, 2), (8, 8, 3), 3, arithmetic, fused=True)
    x = jnp.asarray(RNG.normal(size=(7, 8, 8, 3)), jnp.float32)
    params = kernel.sample(jax.random.key(0))
    plain = np.asarray(replace(kernel, fused=False, arithmetic="float32").by_network(params, x))
    for micro in (None, 3):
        found = np.asarray(kernel.by_network(params, x, micro))
        assert found.shape == plain.shape
        assert np.abs(found - plain).max() < within * np.abs(plain).max()
    assert (arithmetic == "tf32") == bool(np.allclose(found, plain, rtol=1e-4, atol=1e-5))


def test_where_it_applies():
    assert fused_block.applies(convnet(256, 3))
    assert fused_block.applies(convnet(16, 1))
    for other in (convnet(24, 3), convnet(96, 3), convnet(64, 3, (2, 1, 1)), conv_vec(64, 2)):
        assert not fused_block.applies(other)
    assert not fused_block.applies(fully_connected(64, 2))
    kernel = RandomFeatureKernel(convnet(24, 1), (4, 4, 1), 2, fused=True)  # takes XLA's path
    x = jnp.asarray(RNG.normal(size=(2, 4, 4, 1)), jnp.float32)
    params = kernel.sample(jax.random.key(0))
    expected = replace(kernel, fused=False).by_network(params, x)
    np.testing.assert_array_equal(kernel.by_network(params, x), expected)


def test_the_trial_of_auto_runs_under_float64_and_finds_a_wrong_kernel(monkeypatch):
    """What a GPU decides by at the start, here in the interpreter, in float32 as the kernel is."""
    assert jax.config.read("jax_enable_x64")
    taken = []
    kernel = fused_block.conv_relu_pool
    monkeypatch.setattr(
        fused_block, "conv_relu_pool", lambda *given: taken.append(given) or kernel(*given)
    )
    assert fused_block.trial()
    assert {value.dtype for value in taken[0]} == {jnp.dtype("float32")}
    monkeypatch.setattr(fused_block, "conv_relu_pool", lambda *given: 1.1 * kernel(*given))
    assert not fused_block.trial()


def test_what_a_cpu_takes_for_auto():
    if jax.default_backend() == "cpu":
        assert not fused_block.works()
        assert not fused_of("auto", convnet(16, 1))
        assert arithmetic_of("auto") == arithmetic_of("tf32") == "float32"
    assert fused_of(True, convnet(16, 1))
    assert not fused_of(False, convnet(16, 1))
    assert arithmetic_of("bfloat16") == "bfloat16"
    with pytest.raises(UserError, match="fused=true: the network must start"):
        fused_of(True, convnet(8, 1))


@pytest.mark.gpu
def test_kernel_works_on_this_gpu():
    """Else kernel.fused=auto leaves it off, with a warning."""
    assert fused_block.works()
