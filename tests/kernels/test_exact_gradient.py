"""Derivatives of the exact kernels with respect to both image sets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import (
    Architecture,
    Conv,
    Flatten,
    Relu,
    convnet,
    fully_connected,
)
from distill_cli.kernels.exact import band_gram, geometry, gram, tiles

CASES = {
    "one block": (convnet(4, 1), (4, 5, 1)),
    "two blocks, odd sizes": (convnet(4, 2), (6, 5, 2)),
    "two convolutions last": (convnet(4, 2, (1, 2)), (4, 6, 1)),
    "two convolutions first, odd": (convnet(4, 2, (2, 1)), (5, 4, 2)),
    "no pooling": (Architecture((Conv(4), Relu(), Conv(4), Relu(), Flatten())), (3, 4, 2)),
}


def images(shape, n: int, seed: int, dtype=np.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)), dtype)


def loss(architecture: Architecture, seed: int = 5):
    """A random linear function of both kernel matrices."""

    def value(x1, x2):
        nngp, ntk = band_gram(architecture, x1, x2)
        a, b = np.random.default_rng(seed).normal(size=(2, *nngp.shape)).astype(nngp.dtype)
        return (a * nngp + b * ntk).sum()

    return value


@pytest.fixture(autouse=True)
def narrow_tiles(monkeypatch) -> None:
    """Several tiles even for a few images."""
    monkeypatch.setattr(tiles, "tile_columns", lambda *_: 2)


@functools.cache
def compiled(name: str, square: bool):
    """Value and gradient of the case, float64, compiled once for all tests."""
    return jax.jit(jax.value_and_grad(loss(CASES[name][0]), 0 if square else (0, 1)))


@pytest.mark.parametrize(
    ("name", "square"),
    [
        ("one block", False),
        ("one block", True),
        pytest.param("two blocks, odd sizes", False, marks=pytest.mark.slow),
        pytest.param("two blocks, odd sizes", True, marks=pytest.mark.slow),
        pytest.param("two convolutions last", False, marks=pytest.mark.slow),
        pytest.param("two convolutions last", True, marks=pytest.mark.slow),
        pytest.param("two convolutions first, odd", False, marks=pytest.mark.slow),
        pytest.param("two convolutions first, odd", True, marks=pytest.mark.slow),
        ("no pooling", False),
    ],
)
def test_hand_written_equals_automatic(name, square, monkeypatch) -> None:
    """The general path has no hand-written part; both differ by rounding only in float64."""
    architecture, shape = CASES[name]
    x1, x2 = images(shape, 2, 0), images(shape, 3, 1)
    x2 = None if square else x2.at[1].set(1.1 * x1[1] + 0.1 * x2[1])
    ours = compiled(name, square)(x1, x2)
    monkeypatch.setattr(geometry.Plan, "blocks", lambda _: ())
    theirs = jax.jit(jax.value_and_grad(loss(architecture), 0 if square else (0, 1)))(x1, x2)
    for found, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8 * float(jnp.abs(expected).max()))


def test_finite_differences() -> None:
    name = "two blocks, odd sizes"
    shape = CASES[name][1]
    x1, x2 = images(shape, 2, 0), images(shape, 3, 1)
    value_and_grad, step = compiled(name, False), 1e-5
    gradients = value_and_grad(x1, x2)[1]
    for seed in range(3):
        d1, d2 = images(shape, 2, 10 + seed), images(shape, 3, 20 + seed)
        up, down = (value_and_grad(x1 + s * d1, x2 + s * d2)[0] for s in (step, -step))
        slope = (gradients[0] * d1).sum() + (gradients[1] * d2).sum()
        assert float((up - down) / (2 * step)) == pytest.approx(float(slope), rel=1e-6)


def test_same_values_as_gram_and_swapped_sets() -> None:
    architecture, shape = CASES["one block"]
    x1, x2 = images(shape, 2, 0), images(shape, 3, 1)
    for pair in ((x2, x1), (x2, None)):
        found = jax.jit(band_gram, static_argnums=0)(architecture, *pair)
        expected = gram(architecture, *pair, dtype=np.float64)
        for kernel, name in zip(found, ("nngp", "ntk"), strict=True):
            np.testing.assert_allclose(kernel, expected[name], rtol=1e-8)


def test_float32_gradient_is_close_and_stays_float32() -> None:
    shape = CASES["one block"][1]
    sets = images(shape, 2, 0), images(shape, 3, 1)
    pairs = [compiled("one block", False)(*(x.astype(t) for x in sets))[1] for t in ("f8", "f4")]
    for exact, found in zip(*pairs, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, atol=1e-4 * float(jnp.abs(exact).max()))


def test_zero_and_equal_images_have_finite_gradients() -> None:
    for bias in (0.01, 0.0):
        architecture = Architecture(convnet(4, 1).layers, bias_variance=bias)
        x = images((4, 4, 1), 3, 0, np.float32)
        x = x.at[0].set(0).at[2].set(x[1])
        gradient = jax.jit(jax.grad(loss(architecture)))(x, None)
        assert np.isfinite(gradient).all()


def test_fully_connected_gradient_by_finite_differences() -> None:
    architecture = fully_connected(4, 2)
    x = images((2, 3, 1), 3, 0)
    gradient = jax.jit(jax.grad(loss(architecture)))(x, None)
    value, step = jax.jit(loss(architecture)), 1e-5
    direction = images((2, 3, 1), 3, 1)
    slope = (value(x + step * direction, None) - value(x - step * direction, None)) / (2 * step)
    assert float(slope) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)
