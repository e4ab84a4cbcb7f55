"""The tiles of accelerators (whole bands, several rows at once), made to run here on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import CASES, TOLERANCE, errors_of_both_forms, images
from test_exact_memory import KIP, MYRTLE5

from distill_cli.arch.layers import Architecture, Conv, Flatten, Relu, convnet
from distill_cli.errors import UserError
from distill_cli.kernels.exact import band_gram, choose_engine, gram, grid_tiles, memory, tiles
from distill_cli.kernels.exact_kernel import ExactKernel

GRADIENTS = {
    "one block": (convnet(4, 1), (4, 5, 1)),
    "two convolutions first, odd": (convnet(4, 2, (2, 1)), (5, 4, 2)),
    "two convolutions last, no pooling": (
        Architecture((*convnet(4, 1).layers[:-1], Conv(4), Relu(), Conv(4), Relu(), Flatten())),
        (6, 4, 1),
    ),
    "general path at the end": (
        Architecture((*convnet(4, 1).layers[:-1], Conv(4), Conv(4), Relu(), Flatten())),
        (4, 6, 1),
    ),
}


@pytest.fixture
def on_grid(monkeypatch):
    """Switches to the tiles of accelerators, small enough for several in a few images."""

    def switch() -> None:
        monkeypatch.setattr(tiles, "on_whole_bands", lambda: True)
        monkeypatch.setattr(grid_tiles, "MOST_COLUMNS", 4)

    return switch


@pytest.mark.parametrize("name", CASES)
def test_float64_equals_the_full_covariance(name, on_grid) -> None:
    on_grid()
    errors = errors_of_both_forms(gram, name)
    assert all(errors[kernel] < limit for kernel, limit in TOLERANCE.items()), errors


@pytest.mark.parametrize("name", ["odd and oblong", "two convolutions first"])
def test_float32_equals_the_path_of_cpus(name, on_grid) -> None:
    architecture, shape = CASES[name]
    x, z = images(shape, 3, 0), images(shape, 9, 1)
    usual = gram(architecture, x, z)
    alone = gram(architecture, x)
    on_grid()
    for kernel, found in gram(architecture, x, z).items():
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, usual[kernel], rtol=1e-5)
    for kernel, found in gram(architecture, z, x, get=("ntk",)).items():
        np.testing.assert_allclose(found, usual[kernel].T, rtol=1e-5)
    for kernel, found in gram(architecture, x).items():
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(found, alone[kernel], rtol=1e-5)


def loss(architecture: Architecture, n1: int, n2: int):
    """A random linear function of K(x1, x2) and K(x2, x2), both kernels."""
    a, b = (np.random.default_rng(5).normal(size=(2, n, n2)) for n in (n1, n2))

    def value(x1, x2):
        pairs = zip(a, band_gram(architecture, x1, x2), strict=True)
        own = zip(b, band_gram(architecture, x2), strict=True)
        return sum((w.astype(k.dtype) * k).sum() for w, k in (*pairs, *own))

    return jax.jit(jax.value_and_grad(value, (0, 1)))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(GRADIENTS)[1:]]


@pytest.mark.parametrize("name", ["one block", *SLOW])
def test_gradient_equals_the_path_of_cpus(name, on_grid) -> None:
    """Float64, to what rounding leaves of the angle of equal images; float32 near it."""
    architecture, shape = GRADIENTS[name]
    x1, x2 = (jnp.asarray(images(shape, n, n), jnp.float64) for n in (2, 5))
    expected = jax.tree.leaves(loss(architecture, 2, 5)(x1, x2))
    on_grid()
    for dtype, limit in (("float64", 1e-8), ("float32", 1e-4)):
        found = loss(architecture, 2, 5)(x1.astype(dtype), x2.astype(dtype))
        for a, b in zip(jax.tree.leaves(found), expected, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, atol=limit * float(jnp.abs(b).max()))


def test_one_kernel_of_a_method_by_finite_differences(on_grid) -> None:
    """Two convolutions first, directions in both sets."""
    on_grid()
    kernel = ExactKernel(convnet(1, 2, (2, 1)), "ntk", "float64")
    x1, x2 = (jnp.asarray(images((4, 4, 1), n, n), jnp.float64) for n in (5, 3))
    value = jax.jit(lambda x1, x2: jnp.sin(7 * kernel.gram(x1, x2)).sum())
    d1, d2, step = (
        jnp.asarray(images((4, 4, 1), 5, 8), jnp.float64),
        jnp.asarray(images((4, 4, 1), 3, 9), jnp.float64),
        1e-5,
    )
    slope = value(x1 + step * d1, x2 + step * d2) - value(x1 - step * d1, x2 - step * d2)
    g1, g2 = jax.jit(jax.grad(value, (0, 1)))(x1, x2)
    assert float((g1 * d1).sum() + (g2 * d2).sum()) == pytest.approx(
        float(slope / (2 * step)), rel=1e-6
    )


def test_zero_and_equal_images_have_finite_gradients(on_grid) -> None:
    on_grid()
    for bias in (0.01, 0.0):
        architecture = Architecture(convnet(4, 1).layers, bias_variance=bias)
        x = jnp.asarray(images((4, 4, 1), 3, 0))
        x = x.at[0].set(0).at[2].set(x[1])
        gradients = loss(architecture, 3, 3)(x, x)[1]
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("n1", "n2"), [(1, 1), (3, 40), (100, 5000), (500, 10000), (7, 1025)])
def test_tiles_fit_and_waste_little(n1, n2) -> None:
    net, shape = KIP, (32, 32, 3)
    sizes = []
    for bound in (50, 600, 5000, 20000):
        rows, columns = grid_tiles.tile_shape(net, shape, np.float32, bound, n1, n2, True)
        assert memory.grid_mb(net, shape, rows, columns, np.float32, True) <= bound
        assert columns <= min(n2, grid_tiles.MOST_COLUMNS) and rows <= n1
        assert columns % grid_tiles.LANES == 0 or columns < 8 * grid_tiles.LANES
        padded = -(-n1 // rows) * rows * -(-n2 // columns) * columns
        assert padded < 1.6 * n1 * n2
        sizes.append(rows * columns)
    assert sizes == sorted(sizes)


def test_too_small_names_the_least(on_grid) -> None:
    on_grid()
    net, shape = KIP, (32, 32, 3)
    x = images(shape, 2, 0)
    for refused in (
        lambda: gram(net, x, memory_mb=1.0),
        lambda: gram(net, x, memory_mb=1.0, engine="band"),
        lambda: band_gram(net, jnp.asarray(x), memory_mb=1.0),
        lambda: ExactKernel(net, "ntk", memory_mb=1.0).check_fits(shape),
    ):
        with pytest.raises(UserError, match=r"memory_mb=1: too small for one pair of 32x32x3"):
            refused()
    ExactKernel(net, "ntk").check_fits(shape)
    assert choose_engine(net, shape) == "band"


def test_the_default_bound_stands_for_a_share_of_the_device(monkeypatch) -> None:
    monkeypatch.setattr(memory, "device_mb", lambda: 60000.0)
    assert tiles.bound(512) == 512  # a CPU
    monkeypatch.setattr(tiles, "on_whole_bands", lambda: True)
    assert (tiles.bound(512), tiles.bound(700)) == (20000, 700)
    monkeypatch.setattr(memory, "device_mb", lambda: 0.0)  # a device that does not say
    assert tiles.bound(512) == 512


# Temporary memory in MiB of tiles that XLA (jax 0.10.2) compiled for an H100: values of both
# kernels, and the derivative of the NTK in both sets.
COMPILED = [
    (convnet(1, 3), (32, 32, 3), 4, 256, False, 999),
    (convnet(1, 3), (32, 32, 3), 4, 256, True, 1905),
    (KIP, (32, 32, 3), 4, 256, False, 2701),
    (KIP, (32, 32, 3), 4, 256, True, 4605),
    (convnet(1, 4), (64, 64, 3), 1, 64, False, 1075),
    (convnet(1, 4), (64, 64, 3), 1, 64, True, 2112),
    (KIP, (28, 28, 1), 5, 256, False, 2585),
    (KIP, (28, 28, 1), 5, 256, True, 4404),
    (convnet(1, 2, (3, 2)), (16, 16, 3), 8, 256, False, 392),
    (convnet(1, 2, (3, 2)), (16, 16, 3), 8, 256, True, 696),
    (MYRTLE5, (16, 16, 3), 4, 256, False, 3364),
    (MYRTLE5, (16, 16, 3), 4, 256, True, 4989),
    (convnet(1, 2), (8, 8, 1), 8, 256, False, 27),
    (convnet(1, 2), (8, 8, 1), 8, 256, True, 51),
]


@pytest.mark.parametrize(("architecture", "shape", "rows", "columns", "gradient", "mib"), COMPILED)
def test_compiled_tiles_need_less_than_the_bound(
    architecture, shape, rows, columns, gradient, mib
) -> None:
    """And not much less."""
    bound = memory.grid_mb(architecture, shape, rows, columns, np.float32, gradient)
    assert mib < bound < 2.5 * mib
