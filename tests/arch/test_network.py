"""The network against NumPy and the kernel it converges to; the convolution's gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from distill_cli.arch import network as network_module
from distill_cli.arch.convolution import convolve
from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    Relu,
    convnet,
    feature_shape,
    fully_connected,
)
from distill_cli.arch.network import (
    initialise,
    micro_batch,
    network,
    predict,
    with_width,
)


def _images(key: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(key), shape, "float32")


def _numpy_block(x, kernel, bias):
    """3x3 zero-padded cross-correlation, ReLU, 2x2 mean without the odd last row or column."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    h = np.maximum(np.einsum("nijcab,abco->nijo", patches, kernel) + bias, 0)
    n, rows, columns, channels = h.shape
    h = h[:, : rows // 2 * 2, : columns // 2 * 2]
    return h.reshape(n, rows // 2, 2, columns // 2, 2, channels).mean((2, 4))


def test_forward_equals_numpy_with_odd_sizes_floored():
    net = network(convnet(4, 2), 3)
    x = _images(0, 2, 7, 6, 2)
    params = initialise(net, jax.random.key(1), x)
    weights = jax.tree.map(lambda a: np.asarray(a, np.float64), params["params"])
    h = np.asarray(x, np.float64)
    for name in ("hidden_0", "hidden_1"):
        h = _numpy_block(h, **weights[name])
    phi = h.reshape(2, -1)
    features = net.apply(params, x, method="features")
    np.testing.assert_allclose(features, phi, rtol=1e-5, atol=1e-5)
    expected = phi @ weights["readout"]["kernel"] + weights["readout"]["bias"]
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "shape", "count"),
    [
        # RFAD's network on CIFAR-10 at width 256: d = 4096.
        (convnet(256, 3), (32, 32, 3), 27 * 256 + 2 * 9 * 256**2 + 3 * 256 + 4096 * 10 + 10),
        (convnet(8, 3), (28, 28, 1), 9 * 8 + 2 * 9 * 64 + 24 + 72 * 10 + 10),
        (fully_connected(16, 2), (4, 4, 1), 16 * 16 + 16 * 16 + 32 + 160 + 10),
        (
            Architecture((Conv(5), Relu(), GlobalAvgPool())),
            (4, 4, 1),
            9 * 5 + 5 + 5 * 10 + 10,
        ),
    ],
)
def test_parameter_count(architecture, shape, count):
    net = network(architecture, 10)
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *shape), "float32"))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_float32_under_x64():
    with jax.enable_x64(True):
        net = network(convnet(4, 1), 2)
        x = jnp.ones((1, 4, 4, 1), "float64")
        params = initialise(net, jax.random.key(0), x)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        assert net.apply(params, x).dtype == jnp.float32


def test_wide_layer_has_the_arc_cosine_kernel():
    """<phi, phi'>/d of one wide [Dense, ReLU] is the arc-cosine kernel of degree 1 (Cho & Saul)."""
    x = _images(3, 2, 2, 2, 1)
    net = network(fully_connected(200_000, 1), 2)
    params = initialise(net, jax.random.key(4), x)
    phi = np.asarray(net.apply(params, x, method="features"), np.float64)
    flat = np.asarray(x, np.float64).reshape(2, 4)
    q = 2 * flat @ flat.T / 4 + 0.01
    norm = np.sqrt(np.outer(np.diag(q), np.diag(q)))
    angle = np.arccos(np.clip(q / norm, -1, 1))
    expected = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    np.testing.assert_allclose(phi @ phi.T / phi.shape[1], expected, rtol=0.02, atol=2e-3)


def test_output_covariance_is_the_empirical_nngp():
    """E[f f'] over networks = E[w^2 <phi, phi'>/d + b^2], with non-default variances."""
    architecture = Architecture(
        (Conv(16), Relu(), AvgPool(), Flatten()), weight_variance=1.5, bias_variance=0.3
    )
    net = network(architecture, 10)
    x = _images(5, 3, 4, 4, 2)
    draws = 800

    def one(key):
        params = initialise(net, key, x)
        phi = net.apply(params, x, method="features")
        f = net.apply(params, x)
        return f @ f.T / 10, 1.5 * phi @ phi.T / phi.shape[1] + 0.3

    outputs, kernels = lax.map(jax.jit(one), jax.random.split(jax.random.key(6), draws))
    outputs, kernels = np.asarray(outputs, np.float64), np.asarray(kernels, np.float64)
    error = outputs.std(0) / np.sqrt(draws)
    assert np.all(error < 0.05 * np.diag(kernels.mean(0)).mean())  # sharp enough to fail
    assert np.all(np.abs(outputs.mean(0) - kernels.mean(0)) < 5 * error)


def test_feature_shape_and_with_width():
    architecture = with_width(convnet(4, 2, (2, 1)), 6)
    assert architecture == convnet(6, 2, (2, 1))
    x = _images(0, 2, 9, 8, 1)
    net = network(architecture, 3)
    phi = net.apply(initialise(net, jax.random.key(0), x), x, method="features")
    assert phi.shape[1:] == feature_shape(architecture, (9, 8, 1))


def _loss(convolution, x, kernel):
    return jnp.sum(jnp.sin(convolution(x, kernel)))


def _of_gradients(convolution, x, kernel):
    gx, gk = jax.grad(_loss, (1, 2))(convolution, x, kernel)
    return jnp.sum(jnp.cos(gx)) + jnp.sum(gk**2)


def _pair(padding: int, stride: int = 1):
    """(convolve, lax.conv_general_dilated) with this padding and stride."""
    numbers = ("NHWC", "HWIO", "NHWC")

    def own(x, kernel):
        return convolve(x, kernel, (padding, padding), stride)

    def reference(x, kernel):
        pads = [(padding, padding)] * 2
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=numbers
        )

    return own, reference


def _check_gradients(own, reference, x, kernel) -> None:
    """First and second derivatives by images and weights."""
    for function in (_loss, _of_gradients):
        got = jax.grad(function, (1, 2))(own, x, kernel)
        want = jax.grad(function, (1, 2))(reference, x, kernel)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5, 4, 2), (2, 1, 2, 3), (1, 2, 2, 1)])
def test_convolution_and_its_first_two_gradients_equal_lax(shape):
    """The hand-written derivative against the one JAX derives, also inside a scan."""
    x, kernel = _images(0, *shape), _images(1, 3, 3, shape[-1], 4)
    own, reference = _pair(1)
    _check_gradients(own, reference, x, kernel)

    def descend(convolution):
        def step(kernel, _):
            return kernel - 0.01 * jax.grad(_loss, 2)(convolution, x, kernel), None

        return lax.scan(step, kernel, None, length=3)[0]

    np.testing.assert_allclose(descend(own), descend(reference), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("size", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2)])
@pytest.mark.parametrize("side", [(5, 6), (7, 9)])
def test_strided_convolution_and_its_first_two_gradients_equal_lax(stride, size, padding, side):
    """At every remainder of the side by the stride; second derivatives are JAX's own."""
    x, kernel = _images(0, 2, *side, 3), _images(1, size, size, 3, 4)
    _check_gradients(*_pair(padding, stride), x, kernel)


def test_predict_does_not_depend_on_the_micro_batch(monkeypatch):
    net = network(convnet(6, 2), 3)
    images = np.asarray(_images(1, 11, 8, 8, 1))
    params = initialise(net, jax.random.key(2), images[:1])
    whole = predict(net, params, images)
    np.testing.assert_allclose(whole, net.apply(params, images), rtol=1e-5, atol=1e-6)
    budget = 4 * (8 * 8 * 6) * 4 + 1  # four images of 8x8 pixels, 6 channels, 4 bytes
    monkeypatch.setattr(network_module, "_FORWARD_BYTES", {jax.default_backend(): budget})
    assert micro_batch(net.architecture, (8, 8, 1)) == 4
    np.testing.assert_allclose(predict(net, params, images), whole, rtol=1e-5, atol=1e-6)
