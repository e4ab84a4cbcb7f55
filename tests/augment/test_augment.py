"""Augmentations: neutral parameters, exact geometry, sharing, derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from distill_cli.augment import colour, dc, dsa, frepo, kip, resample
from distill_cli.augment import strategy as strategies
from distill_cli.errors import UserError

KEY = jax.random.key(0)
ONE, ZERO = jnp.ones(1, jnp.float32), jnp.zeros(1, jnp.float32)


def pictures(n=3, height=9, width=8, channel=3, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, height, width, channel)).astype(dtype)


@pytest.mark.parametrize(
    "neutral",
    [
        lambda x: colour.brightness(x, ZERO),
        lambda x: colour.saturation(x, ONE),
        lambda x: colour.contrast(x, ONE),
        lambda x: colour.mirror(x, jnp.zeros(1, bool)),
        lambda x: resample.translate(x, ZERO, ZERO, edge=False),
        lambda x: resample.zoom(x, ONE, ONE, edge=False),
        lambda x: resample.rotate(x, ZERO, edge=False),
        lambda x: resample.rotate(x, ZERO, edge=True),
    ],
)
def test_neutral_parameters_change_nothing(neutral):
    x = pictures()
    np.testing.assert_allclose(neutral(jnp.asarray(x)), x, atol=1e-6)


def test_two_mirrors_are_none():
    x = jnp.asarray(pictures())
    turned = jnp.ones(1, bool)
    assert not np.allclose(colour.mirror(x, turned), x)
    np.testing.assert_array_equal(colour.mirror(colour.mirror(x, turned), turned), x)


def test_saturation_leaves_grey_and_removes_colour_at_zero():
    grey = jnp.asarray(pictures(channel=1))
    np.testing.assert_array_equal(colour.saturation(grey, 2 * ONE), grey)
    threefold = jnp.repeat(grey, 3, axis=3)
    np.testing.assert_allclose(colour.saturation(threefold, 2 * ONE), threefold, atol=1e-6)
    faded = np.asarray(colour.saturation(jnp.asarray(pictures()), ZERO))
    np.testing.assert_allclose(faded, np.repeat(pictures().mean(3, keepdims=True), 3, 3), atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(2, -3), (-1, 0), (9, 0)])
def test_translation_moves_exactly_and_fills_with_zero(down, right):
    x = pictures()
    moved = np.asarray(
        resample.translate(jnp.asarray(x), jnp.float32([down]), jnp.float32([right]), edge=False)
    )
    expected = np.zeros_like(x)
    for i in range(9):
        for j in range(8):
            if 0 <= i - down < 9 and 0 <= j - right < 8:
                expected[:, i, j] = x[:, i - down, j - right]
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("factors", [(0.8, 1.2), (1.15, 0.9)])
def test_zoom_against_scipy(edge, factors):
    x = pictures()
    got = resample.zoom(jnp.asarray(x), *(jnp.float32([f]) for f in factors), edge=edge)
    y, z = (
        (np.arange(s) - (s - 1) / 2) * f + (s - 1) / 2 for s, f in zip((9, 8), factors, strict=True)
    )
    np.testing.assert_allclose(
        got, scipy_sample(x, *np.meshgrid(y, z, indexing="ij"), edge), atol=1e-5
    )


@pytest.mark.parametrize("edge", [False, True])
def test_rotation_against_scipy(edge):
    x, angle = pictures(), 0.4
    got = resample.rotate(jnp.asarray(x), jnp.float32([angle]), edge=edge)
    y, z = np.meshgrid(np.arange(9) - 4.0, np.arange(8) - 3.5, indexing="ij")
    rows = np.cos(angle) * y + np.sin(angle) * z + 4.0
    columns = np.cos(angle) * z - np.sin(angle) * y + 3.5
    np.testing.assert_allclose(got, scipy_sample(x, rows, columns, edge), atol=1e-5)


def scipy_sample(x, rows, columns, edge):
    mode = "nearest" if edge else "grid-constant"
    return np.stack(
        [
            np.stack(
                [
                    ndimage.map_coordinates(image[..., c], [rows, columns], order=1, mode=mode)
                    for c in range(x.shape[3])
                ],
                axis=2,
            )
            for image in x
        ]
    )


def test_a_quarter_turn_is_exact():
    x = pictures(height=8)
    turned = resample.rotate(jnp.asarray(x), jnp.float32([np.pi / 2]), edge=False)
    np.testing.assert_allclose(turned, np.rot90(x, 1, axes=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("name", dsa.FAMILIES)
def test_siamese_parameters_are_those_of_the_key(name):
    """The same for every image of a batch and for another batch of another size."""
    x = jnp.asarray(pictures(n=1))
    many = jnp.concatenate([x, x, x])
    apply = jax.jit(partial(dsa.augment, strategy=name, siamese=True))
    for seed in range(4):
        key = jax.random.key(seed)
        one, three = np.asarray(apply(key, x)), np.asarray(apply(key, many))
        np.testing.assert_allclose(three, np.repeat(one, 3, axis=0), atol=1e-5)


@pytest.mark.parametrize("name", dsa.FAMILIES)
def test_otherwise_every_image_has_its_own(name):
    x = jnp.repeat(jnp.asarray(pictures(n=1)), 16, axis=0)
    out = np.asarray(dsa.augment(KEY, x, name))
    assert len({image.tobytes() for image in out}) > 1


def augmenters():
    for name in dsa.FAMILIES:
        yield pytest.param(
            lambda k, x, f=name: dsa.augment(k, x, f, siamese=True), id=f"dsa-{name}"
        )
    for name in frepo.OPERATIONS:
        yield pytest.param(lambda k, x, f=name: frepo.augment(k, x, f), id=f"frepo-{name}")
    for name in dc.OPERATIONS:
        yield pytest.param(lambda k, x, f=name: dc.augment(k, x, f), id=f"dc-{name}")
    yield pytest.param(lambda k, x: kip.augment(k, x, kip.KipAugmentation()), id="kip")
    yield pytest.param(lambda k, x: dsa.augment(k, x, dsa.DEFAULT_STRATEGY), id="dsa-all")
    yield pytest.param(
        lambda k, x: frepo.augment(k, x, frepo.COLOUR_STRATEGY, per_image=True), id="frepo-all"
    )


@pytest.mark.parametrize("apply", list(augmenters()))
def test_shape_dtype_and_gradient(apply):
    """Directional derivative in float64 against central differences."""
    for n, channel in ((1, 1), (3, 3)):
        x = jnp.asarray(pictures(n=n, channel=channel, dtype=np.float64))
        for dtype in (jnp.float32, jnp.float64):
            out = jax.eval_shape(apply, KEY, x.astype(dtype))
            assert (out.shape, out.dtype) == (x.shape, dtype)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=x.shape))
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(apply(KEY, x)))))
    slope = jnp.vdot(run(x)[1], direction)
    h = 1e-5
    numeric = (run(x + h * direction)[0] - run(x - h * direction)[0]) / (2 * h)
    assert float(slope) == pytest.approx(float(numeric), rel=1e-6, abs=1e-7)


def test_cutout_blanks_a_square():
    x = jnp.ones((64, 8, 8, 1), jnp.float32)
    blank = (np.asarray(dsa.augment(KEY, x, "cutout")) == 0).sum((1, 2, 3))
    assert blank.max() == 16
    assert blank.min() >= 4  # clipped at two borders
    inside = (np.asarray(frepo.augment(KEY, x, "cutout")) == 0).sum((1, 2, 3))
    assert set(inside.tolist()) == {4}


def test_crop_moves_by_an_eighth_at_most():
    x = np.zeros((200, 32, 32, 1), np.float32)
    x[:, 16, 16] = 1
    found = np.argwhere(np.asarray(dsa.augment(KEY, jnp.asarray(x), "crop")) == 1)[:, 1:3] - 16
    assert len(found) == 200
    assert found.min() == -4
    assert found.max() == 4


def test_every_family_of_a_strategy_is_drawn():
    x = jnp.asarray(pictures(n=2))
    names = ("color", "cutout", "rotate")
    apply = jax.jit(partial(dsa.augment, strategy="_".join(names)))
    outs = [np.asarray(apply(jax.random.key(seed), x)) for seed in range(20)]
    cut = [(out == 0).mean() > 0.1 for out in outs]
    moved = [abs(out - x).max() > 0 and out[:, 4, 3:5].std() > 0 for out in outs]
    assert 1 < sum(cut) < 15
    assert sum(m and not c for m, c in zip(moved, cut, strict=True)) > 1


def test_one_operation_per_image():
    x = jnp.ones((300, 4, 4, 1), jnp.float32)
    operations = [lambda k, x: 0 * x, lambda k, x: 2 * x]
    out = np.asarray(strategies.one_per_image(KEY, x, operations))
    share = (out[:, 0, 0, 0] == 0).mean()
    assert 0.4 < share < 0.6
    assert set(np.unique(out)) == {0, 2}


def test_kip_share_zero_and_neutral_ranges():
    x = jnp.asarray(pictures())
    np.testing.assert_array_equal(kip.augment(KEY, x, kip.KipAugmentation(share=0.0)), x)
    nothing = kip.KipAugmentation(rotation=0.0, shift=0.0, flip=False, channel_shift=0.0)
    np.testing.assert_allclose(kip.augment(KEY, x, nothing), x, atol=1e-6)
    with pytest.raises(UserError, match="share=2"):
        kip.KipAugmentation(share=2.0)


@pytest.mark.parametrize("augment", [dsa.augment, dc.augment, frepo.augment])
def test_names(augment):
    x = jnp.asarray(pictures())
    np.testing.assert_array_equal(augment(KEY, x, "none"), x)
    with pytest.raises(UserError, match="colr"):
        augment(KEY, x, "colr")


def test_published_strategies():
    assert "flip" not in dsa.default_strategy("mnist")
    assert "flip" not in dsa.default_strategy("svhn")
    assert "flip" in dsa.default_strategy("fashion_mnist")
    assert "flip" in dsa.default_strategy("cifar10")
    assert dc.default_strategy("mnist", False) == "crop_scale_rotate"
    assert dc.default_strategy("cifar10", True) == "crop_noise"
    assert "flip" not in frepo.default_strategy(1)
