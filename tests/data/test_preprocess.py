"""Preprocessing against closed forms and an independent NumPy float64 version."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from distill_cli.data import zca
from distill_cli.data.config import DatasetConfig, PreprocessConfig
from distill_cli.data.preprocess import Preprocess, apply, fit, fit_dataset
from distill_cli.data.sources import load_dataset
from distill_cli.errors import UserError

RNG = np.random.RandomState(0)
BASE = RNG.randint(0, 256, size=(300, 1, 1, 3)) // 2
IMAGES = (BASE + RNG.randint(0, 128, size=(300, 5, 4, 3))).astype(np.uint8)  # correlated pixels
CONFIGS = [
    PreprocessConfig("none", standardize=False),
    PreprocessConfig(),
    PreprocessConfig(mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1)),
    PreprocessConfig(per_image=True),
    PreprocessConfig(zca=0.1),
    PreprocessConfig(per_image=True, zca=0.1),
    PreprocessConfig(pixel_mean=True, zca=0.1),
]


def reference(path: Path, images: np.ndarray) -> np.ndarray:
    """The documented formula in NumPy float64, from the saved file, one image at a time."""
    p = np.load(path, allow_pickle=False)
    rows = []
    for image in images:
        x = (image.astype(np.float64) / p["pixel_max"] - p["mean"]) / p["std"]
        if p["per_image"]:
            x = x - x.mean()
            x = x / np.sqrt((x**2).sum())
        x = x.reshape(-1)
        if "zca_vectors" in p:
            x = x @ p["zca_vectors"] @ np.diag(p["zca_values"] ** -0.5) @ p["zca_vectors"].T
        rows.append(x.reshape(image.shape))
    return np.stack(rows)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_jax_transform_equals_the_formula_on_the_saved_file(config, tmp_path: Path):
    fitted = fit(config, IMAGES, 255)
    fitted.save(tmp_path / "preprocess.npz")
    expected = reference(tmp_path / "preprocess.npz", IMAGES)
    whole = fitted.apply_numpy_chunks(IMAGES)
    assert whole.dtype == np.float32
    assert whole.shape == IMAGES.shape
    np.testing.assert_allclose(whole, expected, atol=2e-5)
    loaded = Preprocess.load(tmp_path / "preprocess.npz")
    inside_jit = jax.jit(apply)(loaded.arrays, IMAGES[:7])
    assert inside_jit.dtype == np.float32
    np.testing.assert_allclose(inside_jit, expected[:7], atol=2e-5)
    np.testing.assert_allclose(loaded.transform(IMAGES[:7]), expected[:7], atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_inverse_returns_the_pixels(config):
    fitted = fit(config, IMAGES, 255)
    back = fitted.invert(fitted.apply_numpy_chunks(IMAGES))
    pixels = IMAGES / 255.0
    assert fitted.exactly_invertible == (not config.per_image)
    if fitted.exactly_invertible:
        np.testing.assert_allclose(back, pixels, atol=1e-4)
    else:  # up to its own mean and scale, in standardised units
        back, pixels = (back - fitted.mean) / fitted.std, (pixels - fitted.mean) / fitted.std
        for one, other in zip(back.reshape(300, -1), pixels.reshape(300, -1), strict=True):
            assert np.corrcoef(one, other)[0, 1] > 1 - 1e-6


def test_inverse_does_not_clip():
    fitted = fit(PreprocessConfig(zca=0.1), IMAGES, 255)
    assert fitted.invert(np.full((1, 5, 4, 3), 50.0)).max() > 1
    assert fitted.invert(np.full((1, 5, 4, 3), -50.0)).min() < 0


def test_standardised_training_images_have_mean_0_and_unbiased_deviation_1():
    x = fit(PreprocessConfig(), IMAGES, 255).apply_numpy_chunks(IMAGES).reshape(-1, 3)
    np.testing.assert_allclose(x.mean(0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0, ddof=1, dtype=np.float64), 1, atol=1e-6)


@pytest.mark.parametrize("per_image", [False, True])
def test_whitened_covariance_has_zca_values_s_over_s_plus_a(per_image: bool, monkeypatch):
    monkeypatch.setattr(zca, "CHUNK_BYTES", 8 * 60 * 37)  # uneven chunks of 37 images
    before = fit(PreprocessConfig(per_image=per_image), IMAGES, 255)
    after = fit(PreprocessConfig(per_image=per_image, zca=0.1), IMAGES, 255)

    def zca_values(fitted: Preprocess) -> np.ndarray:
        x = fitted.apply_numpy_chunks(IMAGES).reshape(300, -1).astype(np.float64)
        return np.linalg.eigvalsh(x.T @ x / 300)

    s = zca_values(before)
    a = 0.1 * s.sum() / 60
    np.testing.assert_allclose(zca_values(after), s / (s + a), rtol=1e-4, atol=1e-9)
    assert after.zca_values is not None
    np.testing.assert_allclose(after.zca_values, s + a, rtol=1e-5)


def test_whitening_works_with_fewer_images_than_pixels():
    fitted = fit(PreprocessConfig(zca=0.1), IMAGES[:10], 255)
    x = fitted.apply_numpy_chunks(IMAGES[:10])
    np.testing.assert_allclose(fitted.invert(x), IMAGES[:10] / 255.0, atol=1e-4)


def test_per_image_step_gives_mean_0_and_norm_1_and_leaves_flat_images_at_0():
    fitted = fit(PreprocessConfig(per_image=True), IMAGES, 255)
    x = fitted.apply_numpy_chunks(IMAGES).reshape(300, -1)
    np.testing.assert_allclose(x.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    grey = RNG.randint(0, 256, size=(20, 4, 4, 1)).astype(np.uint8)
    grey[3] = 77
    flat = fit(PreprocessConfig(per_image=True, zca=0.1), grey, 255).apply_numpy_chunks(grey)
    assert np.isfinite(flat).all()
    assert (flat[3] == 0).all()


def test_moments_are_accumulated_in_float64():
    images = np.full((6000, 32, 32, 1), 200, dtype=np.uint8)
    images[::3] = 203  # mean 201, variance 2, in float32 wrong after seven digits
    mean, std = zca.channel_moments(images, 255.0)
    count = images.size
    assert abs(mean[0] - 201 / 255) < 1e-13
    assert abs(std[0] - np.sqrt(2 * count / (count - 1)) / 255) < 1e-13


def test_covariance_is_the_uncentred_second_moment():
    x = RNG.rand(101, 12).astype(np.float32)
    parts = iter([x[:40], x[40:41], x[41:]])
    expected = x.astype(np.float64).T @ x.astype(np.float64) / 101
    result = zca.covariance(parts, 12)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_channel_without_variance_gets_deviation_1():
    images = IMAGES.copy()
    images[..., 1] = 9
    fitted = fit(PreprocessConfig(zca=0.1), images, 255)
    assert fitted.std[1] == 1
    x = fitted.apply_numpy_chunks(images)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(fitted.invert(x), images / 255.0, atol=1e-4)


def test_scale_of_the_raw_pixels_drops_out():
    floats = (IMAGES / 255.0).astype(np.float32)
    config = PreprocessConfig(zca=0.1)
    one = fit(config, IMAGES, 255).apply_numpy_chunks(IMAGES)
    other = fit(config, floats, 1).apply_numpy_chunks(floats)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_none_scales_to_unit_range():
    fitted = fit(
        PreprocessConfig("none", standardize=False), np.full((2, 2, 2, 1), 16, np.uint8), 16
    )
    assert (fitted.apply_numpy_chunks(np.full((1, 2, 2, 1), 8, np.uint8)) == 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "rfda"}, "did you mean rfad"),
        ({"zca": 0.0}, "zca=0.0"),
        ({"zca": float("nan")}, "zca=nan"),
        ({"mean": (0.1, 0.2, 0.3)}, "given together"),
        ({"mean": (0.1,), "std": (0.2,)}, "has 1 values, the images have 3 channels"),
        ({"mean": (0.1, 0.2, 0.3), "std": (0.1, 0.0, 0.1)}, "must be positive"),
    ],
)
def test_unusable_settings_are_named(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        fit(dataclasses.replace(PreprocessConfig(), **change), IMAGES, 255)


def test_file_that_is_no_preprocessing(tmp_path: Path):
    (tmp_path / "a.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "b.npz", x=np.arange(3))
    for name in ("a.npz", "b.npz", "absent.npz"):
        with pytest.raises(UserError, match="not a saved preprocessing"):
            Preprocess.load(tmp_path / name)


def test_fit_is_cached_by_data_and_settings(cache_folder: Path, monkeypatch):
    dataset = load_dataset(DatasetConfig(name="digits"))
    config = PreprocessConfig(zca=0.1)
    first = fit_dataset(config, dataset)
    monkeypatch.setattr(zca.np.linalg, "eigh", None)  # a second fit would now fail
    second = fit_dataset(config, dataset)
    assert np.array_equal(first.zca_vectors, second.zca_vectors)  # type: ignore[arg-type]
    images = dataset.test.images
    assert np.array_equal(first.apply_numpy_chunks(images), second.apply_numpy_chunks(images))
    with pytest.raises(TypeError):
        fit_dataset(dataclasses.replace(config, zca=0.2), dataset)
    with pytest.raises(TypeError):
        fit_dataset(config, dataclasses.replace(dataset, fingerprint="other"))


@pytest.mark.slow
def test_cifar10_constants_and_whitening(tfds_dir: Path):
    """The measured values of RFAD's CIFAR-10 preprocessing (50,000 training images)."""
    dataset = load_dataset(
        DatasetConfig("cifar10", "tfds", tfds_name="cifar10", data_dir=str(tfds_dir))
    )
    fitted = fit(PreprocessConfig(zca=0.1), dataset.train.images, dataset.pixel_max)
    np.testing.assert_allclose(fitted.mean, [0.49140, 0.48216, 0.44653], atol=5e-6)
    np.testing.assert_allclose(fitted.std, [0.24703, 0.24349, 0.26159], atol=5e-6)
    assert fitted.zca_values is not None
    assert abs(fitted.zca_values[0] - 0.100) < 5e-4
    assert abs(fitted.zca_values[-1] - 880.5) < 0.05
    assert abs(fitted.zca_values.mean() - 1.100) < 5e-4  # trace(Cov) / d + a
    x = fitted.apply_numpy_chunks(dataset.train.images)
    assert abs(x.mean(dtype=np.float64)) < 1e-3
    assert abs(np.sqrt(np.mean(np.square(x), dtype=np.float64)) - 0.485) < 5e-4
    assert abs(np.linalg.norm(x.reshape(len(x), -1), axis=1).mean() - 25.9) < 0.05
    back = fitted.invert(x[:100])
    np.testing.assert_allclose(back, dataset.train.images[:100] / 255.0, atol=1e-4)
