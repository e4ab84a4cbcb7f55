"""The trained networks: parameter counts of the papers' programs, pooling, norms, derivatives."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.errors import UserError
from distill_cli.nets import NETWORKS, NORMS, build
from distill_cli.nets.layers import Conv, Norm, Style, pool

CIFAR, MNIST, TINY = (32, 32, 3), (28, 28, 1), (64, 64, 3)
KEY = jax.random.key(0)


def shapes(net, image_shape):
    """(variables, features) of two images as shapes; nothing is computed."""
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    variables = jax.eval_shape(net.init, KEY, images)
    features = jax.eval_shape(partial(net.apply, method="features"), variables, images)
    return variables, features


def parameters(net, image_shape) -> int:
    variables, _ = shapes(net, image_shape)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("name", "classes", "shape", "options", "count", "features"),
    [
        ("convnet", 10, MNIST, {}, 317_706, 2048),
        ("convnet", 10, CIFAR, {}, 320_010, 2048),
        ("convnet", 10, CIFAR, {"norm": "batch"}, 320_010, 2048),
        ("convnet", 100, CIFAR, {}, 504_420, 2048),
        ("convnet", 200, TINY, {}, 857_160, 2048),
        ("convnet", 200, TINY, {"depth": 3}, 1_938_120, 8192),
        ("frepo_conv", 10, CIFAR, {"norm": "batch"}, 1_561_610, 8192),
        ("frepo_conv", 10, MNIST, {}, 1_558_538, 8192),
        ("frepo_conv", 10, TINY, {"norm": "batch"}, 6_364_170, 16384),
        ("frepo_conv", 10, (128, 128, 3), {"norm": "batch"}, 25_406_474, 32768),
        ("dcconv", 10, CIFAR, {"norm": "instance"}, 319_626, 2048),
        ("alexnet", 10, CIFAR, {}, 1_872_202, 3072),
        ("frepo_alexnet", 10, CIFAR, {}, 1_872_202, 3072),
        ("frepo_vgg11", 10, CIFAR, {"norm": "batch", "compat": True}, 1_040_010, 128),
        ("vgg11", 10, CIFAR, {"norm": "batch"}, 9_231_114, 512),
        ("resnet18", 10, CIFAR, {"norm": "batch"}, 11_173_962, 512),
        ("lenet", 10, CIFAR, {}, 62_006, 84),
        ("mlp", 10, MNIST, {}, 784 * 128 + 128 + 129 * 128 + 1290, 128),
    ],
)
def test_parameters_and_features(name, classes, shape, options, count, features):
    net = build(name, classes, shape, **options)
    assert parameters(net, shape) == count
    assert shapes(net, shape)[1].shape == (2, features)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [CIFAR, MNIST, (16, 16, 1)])
def test_every_network_takes_small_and_large_images(name, shape):
    """All float32, hashable, and equal where it is described equally."""
    net = build(name, 7, shape)
    variables, features = shapes(net, shape)
    leaves = [*jax.tree.leaves(variables), features]
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    assert jax.eval_shape(net.apply, variables, images).shape == (2, 7)
    assert hash(net) == hash(build(name, 7, shape)) and net == build(name, 7, shape)
    # 28 pixels are padded to 32, so that the read-out sees as much as of 32 pixels.
    if shape == MNIST and name != "mlp":
        larger = shapes(build(name, 7, (32, 32, 1)), (32, 32, 1))
        assert features.shape == larger[1].shape


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["convnet", "frepo_conv", "resnet18"])
def test_norms_reach_the_network(name, norm):
    net = build(name, 3, CIFAR, width=8, norm=norm)
    variables, _ = shapes(net, CIFAR)
    assert ("batch_stats" in variables) == (norm == "batch")
    scales = [leaf for path, leaf in jax.tree.leaves_with_path(variables["params"])
              if "scale" in jax.tree_util.keystr(path)]  # fmt: skip
    expected = {"convnet": 3, "frepo_conv": 2, "resnet18": 20}[name]
    assert len(scales) == (0 if norm == "none" else expected)


def test_the_released_resnet_normalises_its_stem_only():
    def scales(compat):
        net = build("frepo_resnet18", 3, CIFAR, width=8, norm="batch", compat=compat)
        return len(jax.tree.leaves(shapes(net, CIFAR)[0]["batch_stats"])) // 2

    assert (scales(True), scales(False)) == (1, 20)


@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch"])
def test_norms_written_out(norm):
    x = np.asarray(jax.random.normal(KEY, (3, 4, 4, 8))) * 2 + 1
    axes = {"instance": (1, 2), "layer": (1, 2, 3), "batch": (0, 1, 2), "group": (1, 2, 4)}[norm]
    pieces = x.reshape(3, 4, 4, 4, 2) if norm == "group" else x
    expected = pieces - pieces.mean(axes, keepdims=True)
    expected /= np.sqrt(pieces.var(axes, keepdims=True) + 1e-5)
    layer = Norm(Style(norm))
    train = partial(layer.init_with_output, train=True)
    found, _ = jax.jit(train)(KEY, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected.reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize(("name", "momentum"), [("frepo_conv", 0.1), ("convnet", 0.9)])
def test_running_statistics(name, momentum):
    """new = momentum old + (1 - momentum) batch; used where train is False, left alone there."""
    net = build(name, 3, (8, 8, 1), width=4, norm="batch", depth=2)
    images = jax.random.normal(KEY, (16, 8, 8, 1), jnp.float32)
    start = jax.jit(net.init)(KEY, images)
    norm = "Norm_0"
    old = start["batch_stats"]["body"][norm]["BatchNorm_0"]
    np.testing.assert_array_equal(old["mean"], 0)
    np.testing.assert_array_equal(old["var"], 1)
    apply = jax.jit(partial(net.apply, mutable=["batch_stats"]), static_argnames="train")
    _, new = apply(start, images, train=True)
    got = new["batch_stats"]["body"][norm]["BatchNorm_0"]
    conv = Conv(4, "torch").bind({"params": start["params"]["body"]["Conv_0"]})

    def before_the_norm(x):
        return pool(nn.relu(conv(x)), "avg") if name == "frepo_conv" else conv(x)

    seen = np.asarray(jax.jit(before_the_norm)(images))
    np.testing.assert_allclose(got["mean"], (1 - momentum) * seen.mean((0, 1, 2)), atol=1e-5)
    variance = momentum + (1 - momentum) * seen.var((0, 1, 2))
    np.testing.assert_allclose(got["var"], variance, rtol=1e-4)
    outputs, still = apply(start, images)
    jax.tree.map(np.testing.assert_array_equal, still["batch_stats"], start["batch_stats"])
    other, _ = apply({"params": start["params"], **new}, images)
    assert not np.allclose(outputs, other, atol=1e-3)


@pytest.mark.parametrize("size", [8, 7])
def test_pooling_equals_window_reduction(size):
    x = jax.random.normal(KEY, (2, size, size, 3), jnp.float32)
    np.testing.assert_allclose(pool(x, "avg"), nn.avg_pool(x, (2, 2), (2, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(pool(x, "max"), nn.max_pool(x, (2, 2), (2, 2)))
    assert pool(x[:, :1, :1], "avg").shape == (2, 1, 1, 3)


def test_readout_reads_the_features_and_initial_weights_have_their_scale():
    images = jax.random.normal(KEY, (4, 16, 16, 3), jnp.float32)
    for name, bound in (("convnet", 1.0), ("frepo_conv", None)):
        net = build(name, 5, (16, 16, 3), width=32)
        variables = jax.jit(net.init)(KEY, images)
        phi = jax.jit(partial(net.apply, method="features"))(variables, images)
        readout = variables["params"]["readout"]
        logits = phi @ readout["kernel"] + readout["bias"][None]
        np.testing.assert_allclose(jax.jit(net.apply)(variables, images), logits, atol=1e-5)
        conv = variables["params"]["body"]["Conv_1"]
        fan_in = conv["kernel"][..., 0].size
        if bound is not None:  # PyTorch's default: uniform, variance 1 / (3 fan_in)
            assert float(jnp.abs(conv["kernel"]).max()) <= fan_in**-0.5
            assert float(jnp.abs(conv["bias"]).max()) > 0
            expected = 1 / 3
        else:
            assert not conv["bias"].any()
            expected = 1.0
        assert float(conv["kernel"].var() * fan_in) == pytest.approx(expected, rel=0.05)


def test_width_and_depth_scale_the_layers():
    net = build("vgg11", 3, CIFAR, width=8, norm="none")
    widths = [
        leaf.shape[-1]
        for path, leaf in jax.tree.leaves_with_path(shapes(net, CIFAR)[0]["params"]["body"])
        if "kernel" in jax.tree_util.keystr(path)
    ]
    assert widths == [8, 16, 32, 32, 64, 64, 64, 64]
    assert shapes(build("convnet", 3, CIFAR, depth=1, width=5), CIFAR)[1].shape == (2, 16 * 16 * 5)
    assert shapes(build("convnet", 3, CIFAR, pooling="none", width=5), CIFAR)[1].shape == (2, 5120)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "convnets"}, "network=convnets: unknown (did you mean convnet?)"),
        ({"name": "convnet", "norm": "bach"}, "norm=bach: unknown (did you mean batch?)"),
        ({"name": "convnet", "pooling": "mean"}, "pooling=mean: unknown"),
        ({"name": "mlp", "norm": "batch"}, "network=mlp has no norm"),
        ({"name": "convnet", "depth": 6}, "depth=6: must be at least 1 and leave something of 32"),
        ({"name": "convnet", "width": 6, "norm": "group"}, "width=6: must be at least 1"),
    ],
)
def test_what_cannot_be_built(options, words):
    with pytest.raises(UserError) as error:
        build(classes=10, image_shape=CIFAR, **options)
    assert words in str(error.value)


def test_lenet_needs_some_pixels():
    with pytest.raises(UserError, match="at least 16 pixels"):
        build("lenet", 10, (8, 8, 1))
