"""Exact kernels inside methods: against the tile engine, float64 NumPy and finite differences."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import Architecture, Dense, Flatten, Relu, conv_vec, convnet
from distill_cli.arch.named import FORMS, named
from distill_cli.errors import UserError
from distill_cli.kernels.exact import gram
from distill_cli.kernels.exact_kernel import ExactKernel, dense_gram

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6, 6, 2))
Z = RNG.normal(size=(3, 6, 6, 2))


def slow_fully_connected(x, z, depth: int) -> tuple[float, float]:
    """NNGP and NTK of one pair by Gaussian expectations in closed form, scalars in float64."""
    dot = {"xx": x @ x, "zz": z @ z, "xz": x @ z}
    k = {name: 0.01 + 2 * value / len(x) for name, value in dot.items()}
    t = k["xz"]
    for _ in range(depth):
        angle = np.arccos(np.clip(k["xz"] / np.sqrt(k["xx"] * k["zz"]), -1, 1))
        value = np.sqrt(k["xx"] * k["zz"]) / (2 * np.pi)
        value *= np.sin(angle) + (np.pi - angle) * np.cos(angle)
        slope = (np.pi - angle) / (2 * np.pi)
        k = {"xx": 0.01 + k["xx"], "zz": 0.01 + k["zz"], "xz": 0.01 + 2 * value}
        t = k["xz"] + 2 * slope * t
    return k["xz"], t


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_dense_gram_equals_scalars_in_numpy(depth):
    architecture = named(f"fc{depth}")
    nngp, ntk = dense_gram(architecture, jnp.asarray(X), jnp.asarray(Z))
    for i, x in enumerate(X.reshape(5, -1)):
        for j, z in enumerate(Z.reshape(3, -1)):
            k, t = slow_fully_connected(x, z, depth)
            np.testing.assert_allclose(nngp[i, j], k, rtol=1e-12)
            np.testing.assert_allclose(ntk[i, j], t, rtol=1e-12)
    own_nngp, own_ntk = dense_gram(architecture, jnp.asarray(X))
    for i, x in enumerate(X.reshape(5, -1)):
        k, t = slow_fully_connected(x, x, depth)
        np.testing.assert_allclose(own_nngp[i, i], k, rtol=1e-7)  # arccos near 1 in the reference
        np.testing.assert_allclose(own_ntk[i, i], t, rtol=1e-7)
    np.testing.assert_allclose(own_nngp, own_nngp.T, rtol=1e-14)
    assert np.linalg.eigvalsh(own_ntk).min() > 0


@pytest.mark.parametrize(
    ("architecture", "which"),
    [(convnet(1, 1), "ntk"), (named("fc2"), "nngp"), (named("fc2"), "ntk")],
    ids=["convnet1-ntk", "fc2-nngp", "fc2-ntk"],
)
def test_kernel_of_a_method_equals_gram_and_is_differentiable(architecture, which):
    kernel = ExactKernel(architecture, which, "float64")
    x, z = jnp.asarray(X), jnp.asarray(Z)
    expected = gram(architecture, X, Z, get=which, dtype=np.float64)[which]
    np.testing.assert_allclose(jax.jit(kernel.gram)(x, z), expected, rtol=1e-9)
    expected = gram(architecture, Z, get=which, dtype=np.float64)[which]
    np.testing.assert_allclose(jax.jit(kernel.gram)(z), expected, rtol=1e-9)

    weight = jnp.asarray(RNG.normal(size=(5, 3)))
    own = jnp.asarray(RNG.normal(size=(3, 3)))

    @jax.jit
    def value(z):
        return jnp.sum(weight * kernel.gram(x, z)) + jnp.sum(own * kernel.gram(z))

    direction = jnp.asarray(RNG.normal(size=Z.shape))
    step = 1e-5
    slope = (value(z + step * direction) - value(z - step * direction)) / (2 * step)
    gradient = jnp.sum(jax.grad(value)(z) * direction)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7)


def test_names_of_architectures():
    assert named("convnet3") == convnet(256, 3)
    assert named("kip_convnet") == convnet(256, 3, (2, 1, 1))
    assert named("conv_vec8", 4) == conv_vec(4, 8)
    assert named("fc1", 7) == Architecture((Flatten(), Dense(7), Relu()))
    assert sum(type(layer).__name__ == "Conv" for layer in named("myrtle10").layers) == 9
    for wrong in ("convnet", "fc0", "myrtle6", "resnet18", ""):
        with pytest.raises(UserError, match=r"method\.kernels=") as error:
            named(wrong, key="method.kernels")
        assert FORMS[0] in str(error.value)


@pytest.mark.process
def test_rows_are_shared_out_among_devices(tmp_path):
    """Two devices in a process of its own: kernel and gradient as on one."""
    program = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
import numpy as np
from distill_cli.arch.layers import convnet
from distill_cli.core.devices import on_all
from distill_cli.kernels.exact_kernel import ExactKernel
x, z = on_all(tuple(np.load(sys.argv[1]).values()))
kernel = ExactKernel(convnet(1, 1), "ntk", "float64")
assert len(x.devices()) == 2
value = jax.jit(jax.value_and_grad(lambda z: jnp.sum(jnp.sin(kernel.gram(x, z)))))
np.savez(sys.argv[2], *value(z))
"""
    np.savez(tmp_path / "in.npz", X, Z)
    files = [str(tmp_path / name) for name in ("in.npz", "out.npz")]
    subprocess.run([sys.executable, "-c", program, *files], check=True)
    with np.load(files[1]) as found:
        value, gradient = found["arr_0"], found["arr_1"]
    kernel = ExactKernel(convnet(1, 1), "ntk", "float64")

    def total(z):
        return jnp.sum(jnp.sin(kernel.gram(jnp.asarray(X), z)))

    expected = jax.jit(jax.value_and_grad(total))(jnp.asarray(Z))
    np.testing.assert_allclose(value, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-8, atol=1e-12)
