"""The user's own arrays: accepted forms, and everything that can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from distill_cli.data.config import DatasetConfig
from distill_cli.data.sources import load_dataset
from distill_cli.errors import UserError

X = np.random.RandomState(0).randint(0, 256, size=(12, 4, 5, 3)).astype(np.uint8)
Y = np.arange(12) % 3


def load(path: Path, **changes: object):
    return load_dataset(
        DatasetConfig(**{"name": "own", "source": "npz", "path": str(path), **changes})
    )


def written(tmp_path: Path, **arrays: object) -> Path:
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    return tmp_path / "own.npz"


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_both_sets_of_names(tmp_path: Path, keys: tuple):
    path = written(tmp_path, **dict(zip(keys, (X, Y, X[:6], Y[:6, None]), strict=True)))
    dataset = load(path)
    assert np.array_equal(dataset.train.images, X)
    assert np.array_equal(dataset.train.labels, Y)
    assert np.array_equal(dataset.test.labels, Y[:6])
    assert dataset.pixel_max == 255
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.train.labels.dtype == np.int32


def test_floats_stay_floats(tmp_path: Path):
    dataset = load(written(tmp_path, x_train=X / 255.0, y_train=Y))
    assert dataset.train.images.dtype == np.float32
    assert dataset.pixel_max == 1
    assert len(dataset.train.labels) == 9
    assert len(dataset.test.labels) == 3


def test_wide_integers_become_bytes_and_grey_gets_a_channel(tmp_path: Path):
    dataset = load(written(tmp_path, x_train=X[..., 0].astype(np.int64), y_train=Y))
    assert dataset.train.images.dtype == np.uint8
    assert dataset.image_shape == (4, 5, 1)


def test_narrow_images_with_channels_last_are_read(tmp_path: Path):
    one_row = load(written(tmp_path, x_train=X[:, :1], y_train=Y))
    assert one_row.image_shape == (1, 5, 3)
    square = load(written(tmp_path, x_train=X[:, :3, :3], y_train=Y))
    assert square.image_shape == (3, 3, 3)


def test_class_names_and_image_size(tmp_path: Path):
    path = written(tmp_path, x_train=X, y_train=Y, class_names=np.array(["ä", "b", "c"]))
    dataset = load(path, image_size=2)
    assert dataset.class_names == ("ä", "b", "c")
    assert dataset.image_shape == (2, 2, 3)


def test_resizing_floats_keeps_a_constant_image(tmp_path: Path):
    path = written(tmp_path, x_train=np.full((6, 8, 8, 2), 0.3), y_train=[0, 1] * 3)
    np.testing.assert_allclose(load(path, image_size=3).train.images, 0.3, atol=1e-6)


FLOATS = X / 255.0
NAN, INFINITE = FLOATS.copy(), FLOATS.copy()
NAN[3, 0, 0, 0], INFINITE[3, 0, 0, 0] = np.nan, np.inf
GAP = np.where(Y == 1, 3, Y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": Y}, "x_train and y_train are needed, found a, b"),
        ({"x_train": X}, "y_train is missing, found x_train"),
        ({"x_train": X, "y_train": Y, "y_test": Y}, "x_test is missing"),
        ({"x_train": NAN, "y_train": Y}, "x_train contains NaN"),
        ({"x_train": INFINITE, "y_train": Y}, "x_train contains NaN or infinity"),
        ({"x_train": X.astype(np.float32), "y_train": Y}, "0 to 1; divide by 255"),
        ({"x_train": FLOATS - 0.5, "y_train": Y}, "values from -0.5"),
        ({"x_train": X.astype(np.int32) + 1, "y_train": Y}, "expected 0 to 255"),
        ({"x_train": X > 3, "y_train": Y}, "x_train is bool"),
        ({"x_train": X.reshape(12, -1), "y_train": Y}, r"shape \(12, 60\), expected \(n, h, w\)"),
        ({"x_train": X[:, :0], "y_train": Y}, r"shape \(12, 0, 5, 3\)"),
        ({"x_train": np.zeros((12, 3, 32, 32), np.uint8), "y_train": Y}, "channels first"),
        ({"x_train": np.zeros((12, 8, 8, 6), np.uint8), "y_train": Y}, "channels last"),
        ({"x_train": X[..., 0].reshape(12, 1, 4, 5), "y_train": Y}, "looks like channels first"),
        ({"x_train": np.stack([X[:, :, :4, 0]] * 3, 1), "y_train": Y}, "channels first.*transpose"),
        ({"x_train": (X > 99).astype(np.uint8), "y_train": Y}, "only 0 and 1.*255 [*] x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X // 128, "y_test": Y}, "x_test .*only 0 and 1"),
        ({"x_train": X, "y_train": Y[:-1]}, "12 images, y_train 11 labels"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
        ({"x_train": X.astype(object), "y_train": Y}, "x_train is an object array"),
        ({"x_train": X, "y_train": Y.astype(object)}, "y_train is an object array"),
        ({"x_train": X, "y_train": Y.astype(float)}, "y_train is float64, expected integers"),
        ({"x_train": X, "y_train": Y - 1}, "y_train runs from -1"),
        ({"x_train": X, "y_train": np.eye(3, dtype=int)[Y]}, "argmax"),
        ({"x_train": X, "y_train": GAP}, "up to 3 but none equal to 1"),
        ({"x_train": X, "y_train": Y * 0}, "at least 2 classes"),
        ({"x_train": X, "y_train": Y, "class_names": np.array(["a"])}, "1 class_names"),
        ({"x_train": X, "y_train": Y, "class_names": np.arange(3)}, "expected text"),
        ({"x_train": X, "y_train": Y, "x_test": FLOATS, "y_test": Y}, "x_test float32"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y},
            r"test images are \(3, 5, 3\)",
        ),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "test labels run from 1 to 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arrays: dict, message: str):
    path = written(tmp_path, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken"])
def test_other_files_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"is not an \.npz file"):
        load(tmp_path / "own.npz")


def test_npy_and_absent_files_are_refused(tmp_path: Path):
    np.save(tmp_path / "own.npy", X)
    with pytest.raises(UserError, match="single array"):
        load(tmp_path / "own.npy")
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "absent.npz")


def test_damaged_archive_is_refused(tmp_path: Path):
    path = written(tmp_path, x_train=X, y_train=Y)
    content = bytearray(path.read_bytes())
    content[300] ^= 255  # a pixel: the archive's checksum no longer agrees
    path.write_bytes(content)
    with pytest.raises(UserError, match="x_train cannot be read"):
        load(path)
