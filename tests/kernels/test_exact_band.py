"""The offset-band engine against a slow float64 NumPy recursion over all pixel pairs."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    convnet,
    fully_connected,
)
from distill_cli.kernels.exact import gram

# Float64, relative to the largest entry. The angle of equal images is lost to sqrt(2 eps) = 2e-8.
TOLERANCE = {"nngp": 1e-12, "ntk": 3e-8}

CASES = {
    "odd and oblong": (convnet(4, 2), (7, 10, 3)),
    "two convolutions first": (convnet(4, 2, (2, 1)), (6, 6, 2)),
    "three convolutions, odd sizes": (convnet(4, 2, (3, 1)), (7, 5, 2)),
    "two convolutions last": (convnet(4, 2, (1, 2)), (9, 6, 2)),
    "global average": (
        Architecture((Conv(3), Relu(), AvgPool(), Conv(3), Relu(), GlobalAvgPool())),
        (6, 5, 2),
    ),
    "no pooling, dense after": (
        Architecture((Conv(3), Relu(), Conv(3), Relu(), Flatten(), Dense(3), Relu())),
        (5, 6, 2),
    ),
    "pool before everything": (Architecture((AvgPool(), Conv(3), Relu(), Flatten())), (6, 6, 1)),
    "fully connected": (fully_connected(4, 3), (4, 5, 2)),
    "other variances": (
        Architecture(convnet(4, 1).layers, weight_variance=1.3, bias_variance=0.4),
        (5, 4, 1),
    ),
    "no bias": (Architecture(convnet(4, 1).layers, bias_variance=0.0), (3, 4, 1)),
}


def images(shape: tuple[int, int, int], n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("name", CASES)
def test_float64_equals_the_full_covariance(name: str) -> None:
    """Rectangular sets that share an image and hold a scaled copy of another, and K(x, x)."""
    architecture, shape = CASES[name]
    x, z = images(shape, 3, 0), images(shape, 4, 1)
    z[1], z[2] = x[1], 1.001 * x[2]
    both = reference.kernels(architecture, np.concatenate([x, z]))
    found = gram(architecture, x, z, dtype=np.float64)
    square = gram(architecture, x, dtype=np.float64)
    for exact, (kernel, limit) in zip(both, TOLERANCE.items(), strict=True):
        assert relative_error(found[kernel], exact[:3, 3:]) < limit
        assert relative_error(square[kernel], exact[:3, :3]) < limit


@pytest.mark.parametrize("name", ["odd and oblong", "two convolutions first"])
def test_float32_accuracy(name: str) -> None:
    """1e-6 (NNGP); 1e-5 (NTK) for distinct images, 4e-5 for copies; the diagonal to rounding."""
    architecture, shape = CASES[name]
    x, z = images(shape, 3, 0), images(shape, 4, 1)
    z[1], z[2] = x[1], 1.001 * x[2]
    nngp, ntk = reference.kernels(architecture, x, z)
    found = gram(architecture, x, z)
    assert found["nngp"].dtype == np.float32 and found["ntk"].dtype == np.float32
    assert relative_error(found["nngp"], nngp) < 1e-6
    assert relative_error(found["ntk"], ntk) < 4e-5
    assert relative_error(found["ntk"][:, [0, 3]], ntk[:, [0, 3]]) < 1e-5
    square = gram(architecture, x)
    for exact, kernel in zip(reference.kernels(architecture, x), square.values(), strict=True):
        assert relative_error(np.diag(kernel), np.diag(exact)) < 1e-6


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    height=st.integers(4, 7),
    width=st.integers(4, 7),
    channels=st.integers(1, 4),
    depth=st.integers(1, 2),
    sets=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_any_shape(height, width, channels, depth, sets) -> None:
    shape = (height, width, channels)
    x, z = images(shape, sets[0], 2), images(shape, sets[1], 3)
    nngp, ntk = reference.kernels(convnet(2, depth), x, z)
    found = gram(convnet(2, depth), x, z, dtype=np.float64)
    assert relative_error(found["nngp"], nngp) < 1e-12
    assert relative_error(found["ntk"], ntk) < 1e-8
