"""What all sources share: digits, splits, limits, label map, checks, fingerprint."""

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from distill_cli.data.config import DatasetConfig
from distill_cli.data.raw import RawDataset, RawSplit, content_digest, hold_out, spread
from distill_cli.data.sources import load_dataset, prepare
from distill_cli.errors import UserError

DIGITS = DatasetConfig(name="digits", source="digits")


def raw_of(labels: list[int], names: tuple[str, ...], test: list[int] | None = None) -> RawDataset:
    def split(values: list[int]) -> RawSplit:
        images = np.arange(len(values) * 4, dtype=np.uint8).reshape(-1, 2, 2, 1)
        return RawSplit(images, np.array(values, dtype=np.int32))

    return RawDataset(split(labels), split(test) if test else None, None, names, 255.0)


def test_digits_hold_every_image_once_with_its_label():
    dataset = load_dataset(DIGITS)
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.classes == 10
    assert dataset.pixel_max == 16
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int32
    reference: Any = load_digits()
    expected = sorted(
        (image.astype(int).tobytes(), int(label))
        for image, label in zip(reference.images, reference.target, strict=True)
    )
    found = sorted(
        (image[..., 0].astype(int).tobytes(), int(label))
        for split in (dataset.train, dataset.test)
        for image, label in zip(split.images, split.labels, strict=True)
    )
    assert found == expected


def test_digits_split_is_stratified_and_always_the_same():
    first, second = load_dataset(DIGITS), load_dataset(DIGITS)
    assert np.array_equal(first.test.images, second.test.images)
    assert first.fingerprint == second.fingerprint
    counts = np.bincount(load_digits(return_X_y=True)[1])
    assert np.array_equal(np.bincount(first.test.labels), np.round(0.2 * counts))


def test_hold_out_partitions_the_rows_and_keeps_single_images_in_train():
    labels = np.array([0] * 10 + [1] * 2 + [2])
    train, test = hold_out(labels, 0.3)
    assert sorted([*train, *test]) == list(range(13))
    assert np.bincount(labels[test], minlength=3).tolist() == [3, 1, 0]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_test_fraction_outside_its_range_is_refused(fraction: float):
    with pytest.raises(UserError, match="test_fraction"):
        load_dataset(dataclasses.replace(DIGITS, test_fraction=fraction))


def test_limits_spread_over_the_classes():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    assert spread(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert spread(labels, 100).tolist() == list(range(7))
    dataset = load_dataset(dataclasses.replace(DIGITS, limit_train=25, limit_test=10))
    assert np.bincount(dataset.train.labels).tolist() == [3] * 5 + [2] * 5
    assert np.bincount(dataset.test.labels).tolist() == [1] * 10


def test_half_maps_ten_classes_to_two():
    labels = list(range(10))
    raw = raw_of(labels, tuple("0123456789"), labels)
    mapped = prepare(DatasetConfig(label_map="half"), raw)
    assert mapped.train.labels.tolist() == [0] * 5 + [1] * 5
    assert mapped.test is not None
    assert mapped.test.labels.tolist() == [0] * 5 + [1] * 5
    assert mapped.class_names == ("0-4", "5-9")


@pytest.mark.parametrize(
    ("config", "raw", "message"),
    [
        (DatasetConfig(), raw_of([0, 0], ("a",)), "at least 2 classes"),
        (
            DatasetConfig(),
            raw_of([0, 2, 0, 2], ("a", "b", "c")),
            r"no training image of class 1 \(b\)",
        ),
        (DatasetConfig(), raw_of([0, 1, 2], ("a", "b")), "run from 0 to 2"),
        (DatasetConfig(), raw_of([0, 1], ("a", "b"), [0, 2]), "test labels run from 0 to 2"),
        (DatasetConfig(), raw_of([0, 1], ("a", "b")), "test split is empty"),
        (DatasetConfig(label_map="half"), raw_of([0, 1, 2], ("a", "b", "c")), "cannot be halved"),
        (DatasetConfig(label_map="hlaf"), raw_of([0, 1], ("a", "b")), "did you mean half"),
        (DatasetConfig(class_names=("x",)), raw_of([0, 1], ("a", "b")), "1 names.*2 classes"),
        (DatasetConfig(limit_train=1), raw_of([0, 1], ("a", "b"), [0]), "limit_train=1"),
    ],
)
def test_unusable_data_are_named(config: DatasetConfig, raw: RawDataset, message: str):
    with pytest.raises(UserError, match=message) as caught:
        prepare(config, raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "digitz"}, "did you mean digits"),
        ({"image_size": 0}, "image_size=0"),
        ({"limit_test": -3}, "limit_test=-3"),
        ({"source": "tfds", "tfds_name": None}, "tfds_name"),
        ({"source": "folder"}, "dataset.path"),
        ({"source": "npz"}, "dataset.path"),
    ],
)
def test_unusable_settings_are_named(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        load_dataset(dataclasses.replace(DIGITS, **change))


def test_fingerprint_follows_pixels_labels_and_name():
    base = load_dataset(DIGITS).fingerprint
    changes = [{"name": "other"}, {"limit_train": 1000}, {"image_size": 16}, {"test_fraction": 0.3}]
    others = [load_dataset(dataclasses.replace(DIGITS, **change)).fingerprint for change in changes]
    assert len({base, *others}) == 5


def test_content_digest_sees_shape_values_and_labels():
    images, labels = np.arange(16, dtype=np.uint8).reshape(2, 2, 4, 1), np.array([0, 1])
    digests = {
        content_digest(images, labels),
        content_digest(images.reshape(2, 4, 2, 1), labels),
        content_digest(images, labels[::-1]),
        content_digest(images.astype(np.float32), labels),
    }
    assert len(digests) == 4
    strided = np.stack([images, images], axis=1)[:, 0]
    assert content_digest(strided, labels) == content_digest(images, labels)


def test_image_size_resizes_digits():
    dataset = load_dataset(dataclasses.replace(DIGITS, image_size=4))
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.train.images.max() <= 16


def test_configuration_is_hashable_and_imports_no_jax():
    config = DatasetConfig(class_names=["a", "b"], channel_mean=[0.5])  # type: ignore[arg-type]
    assert hash(config) == hash(DatasetConfig(class_names=("a", "b"), channel_mean=(0.5,)))
    code = (
        "import sys; import distill_cli.data.config, distill_cli.data.sources,"
        " distill_cli.data.preprocess, distill_cli.data.tfds, distill_cli.data.validation;"
        " sys.exit(any(m in sys.modules for m in ('jax', 'tensorflow', 'tensorflow_datasets')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
