"""Products of kernel matrices on tensor cores: the arithmetic, emulated, against float64, and where
it is taken."""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.linalg import krr_solve
from distill_cli.kernels import ensemble, products
from distill_cli.kernels.ensemble import Ensemble
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.methods import rfad

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from gpu.emulate import cut_off, emulated, exact, rounded  # noqa: E402

sys.path.remove(str(SCRIPTS))
RNG = np.random.default_rng(0)


@pytest.fixture
def card(monkeypatch):
    """Lets the process believe in a GPU of this compute capability."""

    def believe(capability):
        device = SimpleNamespace(compute_capability=capability)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(jax, "local_devices", lambda: [device])
        products.split_works.cache_clear()

    yield believe
    products.split_works.cache_clear()


def test_rounding_to_few_bits_and_towards_zero():
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-7 + 2**-20), 0.0, 3e-40])
    given = rounded(jnp.asarray(x[:4]), 8)
    np.testing.assert_array_equal(given, [1, 1 + 2**-6, -(1 + 2**-7), 0])
    np.testing.assert_array_equal(
        cut_off(jnp.array([1 + 2**-24 + 2**-30, -1 - 2**-23 - 2**-24, 0.5])),
        [1, -1 - 2**-23, 0.5],
    )


@pytest.mark.parametrize("whole", [False, True])
def test_split_products_pass_the_trial_and_tf32_does_not(whole):
    n, k, m = products.TRIAL
    a, b = (RNG.standard_normal(shape).astype(np.float32) for shape in ((n, k), (k, m)))
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)

    def error(name):
        found = np.asarray(emulated(a, b, name, whole), np.float64)
        return (abs(found - exact(a, b)) / lengths).max()

    assert error("BF16_X6") < 3e-7 < products.CLOSE < 5e-6 < error("TF32")


@pytest.mark.parametrize("ridge", [5e-3, 1e-6])
def test_a_regression_with_split_products_is_as_good_as_with_float32(monkeypatch, ridge):
    """alpha and its derivative in the features, all positive as behind a ReLU, against float64:
    with split products no worse than with one rounded addition after the other."""
    kernel = RandomFeatureKernel(convnet(8, 1), (8, 8, 2), 2)
    h = jnp.asarray(np.maximum(RNG.normal(size=(2, 24, kernel.dim)), 0), jnp.float32)
    y = jnp.asarray(RNG.normal(size=(24, 3)))
    gram = Ensemble(kernel).gram

    def alpha_and_pull(h):
        alpha, pull = jax.vjp(lambda h: krr_solve(gram(h, h), y, ridge), h)
        return alpha, pull(y)[0]

    expected = alpha_and_pull(h.astype(jnp.float64))

    def errors(name):
        with monkeypatch.context() as patch:
            patch.setattr(ensemble, "_multiply", lambda _, a, b: emulated(a, b, name))
            found = alpha_and_pull(h)
        return [
            float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
            for a, b in zip(found, expected, strict=True)
        ]

    split, single, tf32 = (errors(name) for name in ("BF16_X6", "float32", "TF32"))
    assert all(x < 1.5 * y for x, y in zip(split, single, strict=True))
    assert tf32[1] > 10 * split[1]


def test_what_multiplied_is_recorded(monkeypatch):
    config = parse(compose("config", ["method=rfad", "kernel.features=bfloat16"]))
    assert rfad.arithmetic(config)["kernel_matrix"] == "float32"
    monkeypatch.setattr(products, "split_works", lambda: True)
    assert rfad.arithmetic(config)["kernel_matrix"] == "bfloat16x6"
    config = parse(compose("config", ["method=rfad", "kernel.features=float32"]))
    assert rfad.arithmetic(config)["kernel_matrix"] == "float32"


def test_a_cpu_multiplies_in_float32():
    for features in ("float32", "tf32", "bfloat16"):
        assert products.arithmetic_of(features) == "float32"
        assert products.precision_of(features, jnp.dtype("float32")) == "highest"


@pytest.mark.parametrize(
    ("capability", "works"), [("9.0", True), ("8.0", True), ("7.5", False), ("8.6", False)]
)
def test_cards_on_which_products_are_split(card, capability, works):
    card(capability)
    assert products.split_works() is works
    split = {True: products.SPLIT, False: "highest"}[works]
    assert products.precision_of("tf32", jnp.dtype("float32")) == split
    assert products.precision_of("float32", jnp.dtype("float32")) == "highest"
    assert products.precision_of("tf32", jnp.dtype("float64")) == "highest"


def test_the_trial_runs_in_the_middle_of_a_trace(card):
    card("9.0")
    jax.jit(lambda x: jnp.matmul(x, x, precision=products.precision_of("tf32", x.dtype)))(
        jnp.ones((2, 2), jnp.float32)
    )
    assert products.split_works() is True


@pytest.mark.parametrize("kind", ["refuses", "rounds"])
def test_float32_where_the_device_refuses_or_rounds(card, monkeypatch, caplog, kind):
    def matmul(a, b, precision):
        assert precision is products.SPLIT
        if kind == "refuses":
            raise NotImplementedError("no such algorithm")
        return emulated(a, b, "TF32")

    card("9.0")
    monkeypatch.setattr(jnp, "matmul", matmul)
    assert products.split_works() is False
    assert "kernel matrices in float32" in caplog.text
    assert products.arithmetic_of("tf32") == "float32"
