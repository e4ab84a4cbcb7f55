"""Telling kinds of preprocessing apart: on images with a natural spectrum, and on real data."""

import numpy as np
import pytest

from distill_cli.core.coreset_io import load_coreset
from distill_cli.data.config import DatasetConfig, PreprocessConfig
from distill_cli.data.preprocess import fit
from distill_cli.data.sources import load_dataset
from distill_cli.formats import likeness

rng = np.random.default_rng(0)
SETTINGS = {
    "pixels": {"standardize": False}, "standardised": {}, "unit": {"per_image": True},
    "whitened": {"zca": 0.1}, "whitened, KIP": {"zca": 0.1, "per_image": True},
    "whitened, FRePo": {"zca": 0.1, "pixel_mean": True},
}  # fmt: skip


def natural(count: int, size: int = 16, channels: int = 3) -> np.ndarray:
    """Gaussian images with amplitude 1/f, as uint8."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    filter_ = 1 / np.maximum(frequency, 1 / size)
    noise = np.fft.fft2(rng.normal(size=(count, channels, size, size)))
    images = np.fft.ifft2(noise * filter_).real.transpose(0, 2, 3, 1)
    return (128 + 50 * images / images.std()).clip(0, 255).astype(np.uint8)


def applied(name: str, images: np.ndarray) -> np.ndarray:
    return fit(PreprocessConfig(**SETTINGS[name]), images, 255.0).apply_numpy_chunks(images)


def every_pair(images: np.ndarray):
    plain = images / 255
    spaces = {name: applied(name, images) for name in SETTINGS}
    for asked, train in spaces.items():
        for made, coreset in spaces.items():
            kinds = [name.split(",")[0] for name in (asked, made)]
            yield kinds, likeness.doubt(coreset[:20], train[20:], plain[20:], kinds[0])


def test_every_kind_is_told_from_every_other():
    for (asked, made), reason in every_pair(natural(600, channels=1)):
        if asked == made:
            assert reason is None, (asked, made, reason)
        else:
            assert reason is not None and reason.startswith(f"looks like {likeness.WORDS[made]}")
            assert likeness.TRY[made] in reason


def test_raw_levels_and_other_scales():
    images = natural(100)
    train = applied("standardised", images)
    reason = likeness.doubt(images[:9].astype(np.float32), train, images / 255, "standardised")
    assert reason is not None and "0 to 255" in reason
    reason = likeness.doubt(9 * train[:9], train, images / 255, "standardised")
    assert reason is not None and "another scale" in reason
    assert likeness.doubt(1.5 * train[:9], train, images / 255, "standardised") is None


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ((False, False, False), "pixels"), ((True, False, False), "standardised"),
        ((True, True, False), "unit"), ((True, True, True), "whitened"),
    ],
)  # fmt: skip
def test_kind(steps, name):
    assert likeness.kind(*steps) == name


def test_traits_of_known_images():
    board = np.indices((4, 4)).sum(0) % 2 * 2.0 - 1
    found = likeness.traits(np.broadcast_to(board[None, ..., None], (2, 4, 4, 1)))
    assert (found.rms, found.mean, found.norm, found.neighbours) == (1, 0, 4, pytest.approx(-1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_real_images(tfds_dir, name):
    options = {"source": "tfds", "tfds_name": name, "data_dir": str(tfds_dir), "limit_train": 600}
    images = load_dataset(DatasetConfig(name=name, cache=False, **options)).train.images
    if name == "cifar10":  # the eigenvectors of 3072 numbers take too long for a test
        images = images[:, ::2, ::2]
    for (asked, made), reason in every_pair(images):
        assert (reason is None) == (asked == made), (asked, made, reason)


@pytest.mark.slow
def test_the_released_rfad_coreset_looks_whitened(tfds_dir, oracle_coreset):
    options = {"source": "tfds", "tfds_name": "cifar10", "data_dir": str(tfds_dir)}
    data = load_dataset(DatasetConfig(name="cifar10", limit_train=500, cache=False, **options))
    plain = data.train.images / 255
    coreset = np.asarray(load_coreset(oracle_coreset).coreset.images)
    train = applied("standardised", data.train.images)
    reason = likeness.doubt(coreset, train, plain, "standardised")
    assert reason is not None and reason.startswith("looks like ZCA-whitened images")
