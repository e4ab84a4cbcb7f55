"""The offset-band engine against a slow float64 NumPy recursion over all pixel pairs."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import CASES, TOLERANCE, errors_of_both_forms, images, relative_error, with_copies

from distill_cli.arch.layers import convnet
from distill_cli.kernels.exact import gram


@pytest.mark.parametrize("name", CASES)
def test_float64_equals_the_full_covariance(name: str) -> None:
    errors = errors_of_both_forms(gram, name)
    assert all(errors[kernel] < limit for kernel, limit in TOLERANCE.items()), errors


@pytest.mark.parametrize("name", ["odd and oblong", "two convolutions first"])
def test_float32_accuracy(name: str) -> None:
    """1e-6 (NNGP); 1e-5 (NTK) for distinct images, 4e-5 for copies; the diagonal to rounding."""
    architecture, shape = CASES[name]
    x, z = with_copies(shape, 4)
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
