"""The band engine on drawn shapes, depths, block lengths and degenerate images, and at full size.

Every drawn architecture costs compilations, so these are few and small; `-m slow` has more.
"""

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference import images, relative_error

from distill_cli.arch.layers import Architecture, AvgPool, Conv, Flatten, Relu, convnet
from distill_cli.kernels.exact import gram

CONV = (Conv(2), Relu())


@st.composite
def problems(draw):
    """(architecture, image shape, seed): blocks of 1 to 3 convolutions, the last perhaps without a
    pooling."""
    per_block = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    layers: list = []
    for convs in per_block:
        layers += [*CONV * convs, AvgPool()]
    if draw(st.booleans()):
        layers += CONV * draw(st.integers(1, 2))
    shape = (draw(st.integers(4, 8)), draw(st.integers(4, 8)), draw(st.integers(1, 4)))
    bias = draw(st.sampled_from([0.0, 0.01, 0.5]))
    return Architecture((*layers, Flatten()), 2.0, bias), shape, draw(st.integers(0, 99))


def check_any_problem(problem) -> None:
    architecture, shape, seed = problem
    x, z = images(shape, 2, seed), images(shape, 3, seed + 100)
    exact = reference.kernels(architecture, np.concatenate([x, z]))
    double = gram(architecture, x, z, dtype=np.float64)
    single = gram(architecture, x, z)
    own = gram(architecture, x)
    for kernel, limit, whole in zip(("nngp", "ntk"), (1e-6, 1e-5), exact, strict=True):
        assert relative_error(double[kernel], whole[:2, 2:]) < 1e-8
        assert relative_error(single[kernel], whole[:2, 2:]) < limit
        assert relative_error(np.diag(own[kernel]), np.diag(whole)[:2]) < 1e-6
        np.testing.assert_array_equal(own[kernel], own[kernel].T)


COMMON = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),  # every step of shrinking would compile again
}


@settings(max_examples=2, **COMMON)
@given(problems())
def test_any_blocks(problem) -> None:
    check_any_problem(problem)


@pytest.mark.slow
@settings(max_examples=25, **COMMON)
@given(problems())
def test_any_blocks_many(problem) -> None:
    check_any_problem(problem)


@settings(max_examples=25, **COMMON)
@given(
    kinds=st.lists(
        st.sampled_from(["noise", "zero", "one", "equal", "huge", "tiny", "opposite"]),
        min_size=4,
        max_size=4,
    ),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("architecture", [convnet(2, 2), convnet(2, 1, (2,))])
def test_degenerate_images(architecture, kinds, seed) -> None:
    """Against float64 on both sides; finite, symmetric, positive semi-definite in float32."""
    x = images((6, 5, 2), 4, seed)
    base = images((6, 5, 2), 1, 0)[0]
    change = {
        "noise": lambda a: a, "zero": np.zeros_like, "one": np.ones_like, "equal": lambda _: base,
        "huge": lambda a: 1e4 * a, "tiny": lambda a: 1e-6 * a, "opposite": lambda _: -base,
    }  # fmt: skip
    x = np.stack([change[kind](a) for kind, a in zip(kinds, x, strict=True)])
    nngp, ntk = reference.kernels(architecture, x)
    found = gram(architecture, x)
    for kernel, exact, limit in ((found["nngp"], nngp, 1e-6), (found["ntk"], ntk, 4e-5)):
        scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert np.abs((kernel - exact) / scale).max() < limit
        np.testing.assert_array_equal(kernel, kernel.T)
        correlation = kernel.astype(np.float64) / scale
        assert np.linalg.eigvalsh(correlation).min() > -limit


@pytest.mark.slow
def test_kip_network_at_full_size() -> None:
    """KIP's ConvNet on CIFAR-sized images: float32 against float64 of the same engine."""
    net, x, z = convnet(2, 3, (2, 1, 1)), images((32, 32, 3), 1, 0), images((32, 32, 3), 2, 1)
    single, double = gram(net, x, z), gram(net, x, z, dtype=np.float64)
    assert relative_error(single["nngp"], double["nngp"]) < 1e-6
    assert relative_error(single["ntk"], double["ntk"]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("per_block", [(1, 1, 1, 1), (2, 1, 1, 1)])
def test_large_images(per_block) -> None:
    """64x64 depth 4 against the float64 full covariance (16.8 million entries per pair)."""
    net = convnet(2, 4, per_block)
    x, z = images((64, 64, 3), 1, 0), images((64, 64, 3), 1, 1)
    nngp, ntk = reference.kernels(net, x, z)
    found = gram(net, x, z)
    assert relative_error(found["nngp"], nngp) < 1e-6
    assert relative_error(found["ntk"], ntk) < 1e-5
