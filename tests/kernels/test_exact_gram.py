"""Properties of exact kernel matrices, the engines against each other, refusals, a released
coreset."""

import numpy as np
import pytest

from distill_cli.arch.layers import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    Relu,
    convnet,
    fully_connected,
)
from distill_cli.errors import UserError
from distill_cli.kernels.exact import choose_engine, estimate_seconds, gram, tiles

NET = convnet(4, 2)
SHAPE = (8, 8, 1)


def images(n: int, seed: int = 0, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def test_square_matrix_is_symmetric_and_positive_definite() -> None:
    x = images(90)
    for kernel in gram(NET, x).values():
        np.testing.assert_array_equal(kernel, kernel.T)
        assert np.linalg.eigvalsh(kernel.astype(np.float64)).min() > 0


def test_square_equals_rectangular_and_transposed() -> None:
    x, z = images(19), images(5, 1)
    square = gram(NET, x)
    for name, kernel in gram(NET, x, x.copy()).items():
        np.testing.assert_allclose(kernel, square[name], rtol=4e-5)
    there, back = gram(NET, x, z), gram(NET, z, x)
    for name in there:
        assert there[name].shape == (19, 5)
        np.testing.assert_allclose(there[name], back[name].T, rtol=1e-5)


def test_result_does_not_depend_on_the_tile(monkeypatch) -> None:
    x, z = images(7), images(70, 1)
    usual = gram(NET, x, z)
    monkeypatch.setattr(tiles, "ROWS", 3)
    monkeypatch.setattr(tiles, "tile_columns", lambda *_: 8)
    for name, kernel in gram(NET, x, z).items():
        np.testing.assert_allclose(kernel, usual[name], rtol=3e-6)


def test_one_kernel_alone_is_the_same() -> None:
    x, z = images(3), images(5, 1)
    both = gram(NET, x, z)
    for name in ("nngp", "ntk"):
        alone = gram(NET, x, z, get=(name,))
        assert set(alone) == {name}
        np.testing.assert_allclose(alone[name], both[name], rtol=1e-6)


def test_degenerate_images() -> None:
    """A zero image, a constant one, equal ones, one in units of 1e8: finite, and homogeneous."""
    x = images(5)
    x[0], x[1], x[2], x[4] = 0, 1, x[3], 1e8 * x[3]
    for kernel in gram(NET, x).values():
        assert np.isfinite(kernel).all()
        np.testing.assert_allclose(kernel[2, 3], kernel[3, 3], rtol=4e-5)
    unbiased = Architecture(NET.layers, bias_variance=0.0)
    for kernel in gram(unbiased, x).values():  # K(t x, z) = t K(x, z), K(0, z) = 0
        np.testing.assert_array_equal(kernel[0], 0)
        np.testing.assert_allclose(kernel[4, 1] / 1e8, kernel[3, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [(NET, SHAPE), (convnet(4, 1), (5, 4, 3)), (fully_connected(4, 2), (4, 4, 2))],
)
def test_equals_neural_tangents(architecture, shape) -> None:
    x, z = images(3, 0, shape), images(4, 1, shape)
    for pair, limit in (((x, z), 2e-5), ((x, None), 5e-4)):  # its own diagonal loses the angle
        ours = gram(architecture, *pair)
        theirs = gram(architecture, *pair, engine="neural_tangents")
        np.testing.assert_allclose(ours["nngp"], theirs["nngp"], rtol=2e-6)
        np.testing.assert_allclose(ours["ntk"], theirs["ntk"], rtol=limit)


def test_neural_tangents_tiles_and_runs_without_tensorflow() -> None:
    import sys

    had = "tensorflow" in sys.modules
    x, z = images(5), images(3, 1)
    whole = gram(NET, x, z, engine="neural_tangents")
    tiled = gram(NET, x, z, engine="neural_tangents", memory_mb=0.5)
    for name in whole:
        np.testing.assert_allclose(whole[name], tiled[name], rtol=1e-6)
    assert had or "tensorflow" not in sys.modules


def record(calls: list[tuple[int, int]]):
    return lambda done, total: calls.append((done, total))


def test_progress_ends_at_all_pairs() -> None:
    for pair in ((images(20), images(3, 1)), (images(20), None)):
        calls: list[tuple[int, int]] = []
        kernels = gram(NET, *pair, get=("nngp",), progress=record(calls))
        total = kernels["nngp"].size
        assert calls[-1] == (total, total)
        assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_choice_and_estimate() -> None:
    assert choose_engine(NET, SHAPE) == "band"
    assert 0 < estimate_seconds(NET, SHAPE, 10, 100) < 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "fast"}, "engine=fast"),
        ({"get": ("ntkk",)}, "did you mean ntk"),
        ({"dtype": np.float16}, "float32 or float64"),
        ({"dtype": np.float64, "engine": "neural_tangents"}, "float32 only"),
        ({"x1": np.zeros((2, 8, 8))}, r"\(n, height, width, channel\)"),
        ({"x1": np.full((2, *SHAPE), np.nan)}, "NaN"),
        ({"x2": np.zeros((2, 8, 8, 3))}, "shapes differ"),
        ({"architecture": convnet(4, 5)}, "leave nothing"),
        ({"architecture": Architecture((Conv(3), Relu()))}, "must end in Flatten"),
        ({"architecture": Architecture((Dense(3), Flatten()))}, "Dense before Flatten"),
        ({"architecture": Architecture((Flatten(), Conv(3)))}, "Conv after Flatten"),
    ],
)
def test_refusals_name_what_is_wrong(change, words) -> None:
    arguments = {"architecture": NET, "x1": images(2), "x2": images(2, 1), **change}
    with pytest.raises(UserError, match=words):
        gram(arguments.pop("architecture"), arguments.pop("x1"), arguments.pop("x2"), **arguments)


@pytest.mark.slow
def test_released_coreset(oracle_coreset) -> None:
    """RFAD's released CIFAR-10 coreset, one image per class: trace / n and condition of both
    kernels."""
    with np.load(oracle_coreset) as stored:
        x = stored["images"].transpose(0, 2, 3, 1)
    kernels = gram(convnet(256, 3), x)
    for name, trace, condition in (("nngp", 0.33765, 396), ("ntk", 0.81782, 100)):
        kernel = kernels[name].astype(np.float64)
        assert np.trace(kernel) / len(x) == pytest.approx(trace, abs=2e-5)
        assert np.linalg.cond(kernel) == pytest.approx(condition, rel=0.01)
