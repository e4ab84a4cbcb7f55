"""Prepared TFDS folders: real data where they are at hand, stand-ins for what is not."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.data import tfds
from distill_cli.data.config import DatasetConfig
from distill_cli.data.sources import load_dataset
from distill_cli.errors import UserError

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def config_of(folder: Path, name: str, **changes: object) -> DatasetConfig:
    return DatasetConfig(
        **{"name": name, "source": "tfds", "tfds_name": name, "data_dir": str(folder), **changes}
    )


@pytest.mark.parametrize(
    ("name", "train", "test", "shape", "counts"),
    [
        ("mnist", "train[:300]", "test", (28, 28, 1), MNIST_TEST),
        ("fashion_mnist", "train[:300]", "test", (28, 28, 1), [1000] * 10),
        ("tiny_imagenet10", "train", "validation", (64, 64, 3), [50] * 10),
    ],
)
def test_prepared_sets_have_the_documented_counts(
    tfds_dir: Path, name: str, train: str, test: str, shape: tuple, counts: list[int]
):
    tensorflow_before = "tensorflow" in sys.modules
    dataset = load_dataset(config_of(tfds_dir, name, train_split=train, test_split=test))
    assert dataset.image_shape == shape
    assert dataset.classes == 10
    assert dataset.pixel_max == 255
    assert dataset.train.images.dtype == np.uint8
    assert np.bincount(dataset.test.labels).tolist() == counts
    assert len(dataset.train.labels) == (5000 if name == "tiny_imagenet10" else 300)
    assert ("tensorflow" in sys.modules) == tensorflow_before


def test_cifar10_held_out_images_have_the_documented_counts_and_moments(tfds_dir: Path):
    dataset = load_dataset(config_of(tfds_dir, "cifar10", train_split="train[:100]"))
    assert dataset.image_shape == (32, 32, 3)
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    pixels = dataset.test.images.reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(pixels.mean(0), [0.4942, 0.4851, 0.4504], atol=5e-5)
    np.testing.assert_allclose(pixels.std(0), [0.2467, 0.2429, 0.2616], atol=5e-5)
    assert dataset.class_names[0] == "airplane"
    assert dataset.class_names[9] == "truck"


@pytest.mark.slow
def test_mnist_complete(tfds_dir: Path):
    dataset = load_dataset(config_of(tfds_dir, "mnist"))
    assert np.bincount(dataset.train.labels).tolist() == MNIST_TRAIN
    pixels = dataset.train.images / 255.0
    assert abs(pixels.mean() - 0.1307) < 5e-5
    assert abs(pixels.std() - 0.3081) < 5e-5


def test_split_mnist_is_digit_div_5(tfds_dir: Path):
    splits = {"train_split": "train[:500]", "test_split": "test[:100]"}
    plain = load_dataset(config_of(tfds_dir, "mnist", **splits))
    split = load_dataset(config_of(tfds_dir, "mnist", label_map="half", **splits))
    assert split.classes == 2
    assert np.array_equal(split.train.labels, plain.train.labels // 5)
    assert np.array_equal(split.test.images, plain.test.images)
    assert split.fingerprint != plain.fingerprint


def test_cache_hit_equals_fresh_read_and_needs_no_tfds(
    tfds_dir: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    splits = {"train_split": "train[:200]", "test_split": "test[:50]"}
    fresh = load_dataset(config_of(tfds_dir, "mnist", cache=False, **splits))
    assert not cache_folder.exists()
    load_dataset(config_of(tfds_dir, "mnist", **splits))
    assert len(list(cache_folder.iterdir())) == 2
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # an import would now fail
    hit = load_dataset(config_of(tfds_dir, "mnist", **splits))
    for one, other in ((fresh.train, hit.train), (fresh.test, hit.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
    assert fresh.fingerprint == hit.fingerprint
    assert fresh.class_names == hit.class_names


def test_changed_source_files_are_read_again(tfds_dir: Path, tmp_path: Path, cache_folder: Path):
    shutil.copytree(tfds_dir / "tiny_imagenet10", tmp_path / "data" / "tiny_imagenet10")
    splits = {"train_split": "train[:20]", "test_split": "validation[:5]"}
    splits |= {"class_names": tuple("abcdefghij"), "train_split": "train[:100]"}
    config = config_of(tmp_path / "data", "tiny_imagenet10", **splits)
    load_dataset(config)
    (tmp_path / "data" / "tiny_imagenet10" / "1.0.0" / "label.labels.txt").touch()
    load_dataset(config)
    assert len(list(cache_folder.iterdir())) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_split": "tset"}, "no such split; there are train, test"),
        ({"train_split": "train[:x]"}, "split 'train.:x.'"),
        ({"label_key": "attributes/Male"}, "no feature 'attributes/Male'; found image, label"),
        ({"version": "9.9.9", "download": False}, "mnist 9.9.9 is not prepared"),
    ],
)
def test_wrong_settings_are_one_line(tfds_dir: Path, changes: dict, message: str):
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(config_of(tfds_dir, "mnist", **{"train_split": "train[:9]", **changes}))
    assert "\n" not in str(caught.value)


def test_damaged_files_are_one_line(tfds_dir: Path, tmp_path: Path):
    folder = tmp_path / "mnist" / "3.0.1"
    shutil.copytree(tfds_dir / "mnist" / "3.0.1", folder)
    for file in folder.glob("*array_record*"):
        file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_dataset(config_of(tmp_path, "mnist"))
    assert "\n" not in str(caught.value)


def test_missing_data_say_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = config_of(tmp_path, "svhn_cropped")
    monkeypatch.setattr(tfds, "online", lambda: False)
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match="no network") as caught:
        load_dataset(config)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "dataset.data_dir=" in message
    assert "\n" not in message
    command = message.split('python -c "')[1].split('"')[0]
    compile(command, "command", "exec")
    assert f"tfds.data_source('svhn_cropped', data_dir='{tmp_path}'" in command
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package tensorflow"):
        load_dataset(config)


def test_failed_download_gives_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Tfds:
        @staticmethod
        def data_source(*_: object, **__: object) -> None:
            raise ConnectionError("host is down\nmore lines")

    monkeypatch.setattr(tfds, "online", lambda: True)
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", Tfds())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="ConnectionError: host is down") as caught:
        load_dataset(config_of(tmp_path, "svhn_cropped"))
    assert "\n" not in str(caught.value)


def prepared(root: Path, version: str, text: str) -> Path:
    folder = root / "thing" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(text)
    return folder


def test_newest_readable_version_is_taken(tmp_path: Path):
    array_record = json.dumps({"fileFormat": "array_record"})
    prepared(tmp_path, "2.0.0", array_record)
    newest = prepared(tmp_path, "10.0.0", array_record)
    prepared(tmp_path, "11.0.0", json.dumps({"fileFormat": "tfrecord"}))
    prepared(tmp_path, "12.0.0.incompleteXY", array_record)
    assert tfds.find_prepared(config_of(tmp_path, "thing")) == newest
    pinned = tfds.find_prepared(config_of(tmp_path, "thing", version="2.0.0"))
    assert pinned == tmp_path / "thing" / "2.0.0"
    with pytest.raises(UserError, match="tfrecord form, but only array_record"):
        tfds.find_prepared(config_of(tmp_path, "thing", version="11.0.0"))


def test_unreadable_description_is_named(tmp_path: Path):
    prepared(tmp_path, "1.0.0", "{")
    with pytest.raises(UserError, match=r"dataset_info\.json"):
        tfds.find_prepared(config_of(tmp_path, "thing"))


def test_data_dir_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "env"))
    assert tfds.data_root(config_of(tmp_path, "x")) == tmp_path
    assert tfds.data_root(DatasetConfig()) == tmp_path / "env"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds.data_root(DatasetConfig()) == Path("~/tensorflow_datasets").expanduser()


class Records(list):
    """A random-access source as TFDS gives it."""

    def __getitems__(self, rows: list[int]) -> list[dict]:
        return [self[row] for row in rows]


def test_celeba_like_records_are_resized_straight_and_read_their_nested_label():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, size=(5, 218, 178, 3)).astype(np.uint8)
    males = [True, False, True, True, False]
    source = Records(
        {"image": image, "attributes": {"Male": male}}
        for image, male in zip(images, males, strict=True)
    )
    read, labels = tfds.read_records(source, "attributes/Male", 64)
    assert labels.tolist() == [1, 0, 1, 1, 0]
    assert read.shape == (5, 64, 64, 3)
    for image, found in zip(images, read, strict=True):
        expected = Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(np.asarray(expected), found)


def test_records_of_mixed_size_are_refused():
    source = Records({"image": np.zeros((4, 4 + row, 1), np.uint8), "label": 0} for row in range(2))
    with pytest.raises(UserError, match=r"image 1 .*image_size"):
        tfds.read_records(source, "label", None)
