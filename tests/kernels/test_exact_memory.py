"""The bound on working memory: tiles shrink to fit, bounds hold, engines follow, refusals say
enough."""

import jax
import numpy as np
import pytest

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    Relu,
    convnet,
)
from distill_cli.errors import UserError
from distill_cli.kernels.exact import band_gram, choose_engine, gram, memory, tiles

CONV = (Conv(2), Relu())
MYRTLE5 = Architecture((*CONV, *CONV, AvgPool(), *CONV, AvgPool(), *CONV, GlobalAvgPool()))
KIP = convnet(2, 3, (2, 1, 1))
GLOBAL = Architecture((*CONV, GlobalAvgPool()))  # offsets over the whole image


def images(shape, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("architecture", "shape", "columns"),
    [
        (convnet(2, 2), (12, 12, 3), 16),
        (convnet(2, 2, (2, 1)), (12, 12, 1), 2),
        (MYRTLE5, (8, 8, 3), 8),
        (Architecture((*CONV, *CONV, Flatten())), (16, 16, 3), 8),
        (Architecture((Conv(2), *CONV, AvgPool(), Flatten())), (8, 8, 1), 8),
    ],
)
def test_the_compiler_needs_less_than_the_bound(architecture, shape, columns) -> None:
    """And not ten times less: a useful bound."""
    x, z = images(shape, 2), images(shape, columns)
    scales = tiles.self_kernels(architecture, z)[2]
    first = jax.tree.map(lambda s: s[..., :2], scales)
    compiled = tiles.compiled_tile(architecture, ("nngp", "ntk"), 2, x, first, z, scales)
    needed = compiled.memory_analysis().temp_size_in_bytes / 2**20
    bound = memory.tile_mb(architecture, shape, 2, columns)
    assert needed < bound < 10 * needed


@pytest.mark.parametrize("architecture", [convnet(2, 2), convnet(2, 1, (2,))])
def test_the_derivative_needs_less_than_its_bound(architecture) -> None:
    shape, columns = (12, 12, 1), 16
    x, z = images(shape, 1), images(shape, columns)

    def loss(x, z):
        return sum(kernel.sum() for kernel in band_gram(architecture, x, z))

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(x, z).compile()
    needed = compiled.memory_analysis().temp_size_in_bytes / 2**20
    bound = memory.tile_mb(architecture, shape, 1, columns, gradient=True)
    assert needed < bound < 10 * needed


def test_small_memory_gives_the_same_kernels() -> None:
    shape = (8, 8, 1)
    net, x, z = convnet(2, 2), images(shape, 3), images(shape, 5, 1)
    least = memory.tile_mb(net, shape, 1, 1)
    usual = gram(net, x, z)
    assert memory.fit(net, shape, np.float32, least, 16, 64) == (1, 1)
    for name, kernel in gram(net, x, z, memory_mb=least).items():
        np.testing.assert_allclose(kernel, usual[name], rtol=3e-6)
    least = memory.tile_mb(net, shape, 1, 1, gradient=True)
    for kernel, name in zip(band_gram(net, x, z, memory_mb=least), usual, strict=True):
        np.testing.assert_allclose(kernel, usual[name], rtol=3e-6)


def test_tiles_fit_and_grow_with_memory() -> None:
    shape, before = (32, 32, 3), 0
    for bound in (1, 2, 4, 8, 16, 512):
        rows, columns = memory.fit(KIP, shape, np.float32, bound, 16, 16)
        assert memory.tile_mb(KIP, shape, rows, columns) <= bound
        assert rows * columns >= before
        before = rows * columns
    assert before == 256


def test_too_small_names_the_least() -> None:
    x = images((32, 32, 3), 1)
    with pytest.raises(UserError, match=r"memory_mb=0\.1: too small .* 32x32x3 images") as caught:
        gram(KIP, x, memory_mb=0.1)
    with pytest.raises(UserError, match=r"engine=band: memory_mb=0\.1"):
        gram(KIP, x, memory_mb=0.1, engine="band")
    with pytest.raises(UserError, match="too small"):
        band_gram(KIP, x, memory_mb=0.1)
    least = float(str(caught.value).rsplit(" ", 1)[1])
    assert memory.fit(KIP, (32, 32, 3), np.float32, least, 16, 16)
    with pytest.raises(UserError, match="the least is 24"):
        gram(KIP, x, memory_mb=23, engine="neural_tangents")
    with pytest.raises(UserError, match="greater than 0"):
        gram(KIP, x, memory_mb=0)


def test_engine_follows_what_fits() -> None:
    """Offsets over a whole large image exceed the full covariance of a pair."""
    for net in (MYRTLE5, KIP, GLOBAL):
        assert choose_engine(net, (32, 32, 3)) == "band"
    assert choose_engine(GLOBAL, (64, 64, 3), 512) == "neural_tangents"
    assert choose_engine(GLOBAL, (64, 64, 3), 16384) == "band"
    with pytest.raises(UserError, match="too small"):
        choose_engine(GLOBAL, (64, 64, 3), 512, np.float64)
    x = images((6, 6, 1), 2)
    bound = 0.05
    assert choose_engine(GLOBAL, (6, 6, 1), bound) == "neural_tangents"
    with pytest.raises(UserError, match=r"engine=band: memory_mb=0\.05: too small"):
        gram(GLOBAL, x, engine="band", memory_mb=bound)
    small, usual = gram(GLOBAL, x, memory_mb=bound), gram(GLOBAL, x)
    np.testing.assert_allclose(small["nngp"], usual["nngp"], rtol=2e-6)
    np.testing.assert_allclose(small["ntk"], usual["ntk"], rtol=5e-4)  # its diagonal, see gram


def test_myrtle_by_auto_equals_neural_tangents() -> None:
    x, z = images((8, 8, 3), 3), images((8, 8, 3), 2, 1)
    ours, theirs = (gram(MYRTLE5, x, z, engine=name) for name in ("auto", "neural_tangents"))
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5)
