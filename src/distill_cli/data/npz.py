"""The user's own arrays in one .npz file.

Keys x_train, y_train[, x_test, y_test][, x_valid, y_valid][, class_names]; the names train_images,
train_labels, test_images, ... are understood too. Images (n, h, w) or (n, h, w, c), integers 0..255
or floats in [0, 1]; labels (n,) or (n, 1), integers 0, 1, 2, ... Refused: integers that are only 0
and 1, and shapes that look like (n, c, h, w). Nothing is ever unpickled.
"""

from pathlib import Path

import numpy as np

from distill_cli.data.config import DatasetConfig
from distill_cli.data.images import resize_all
from distill_cli.data.raw import RawDataset, RawSplit
from distill_cli.errors import UserError
from distill_cli.formats.npz import channels_first


def read(config: DatasetConfig) -> RawDataset:
    """Every array is checked; a UserError names the file, the key and what is wrong."""
    if not config.path:
        raise UserError("dataset.path is not set: dataset.source=npz needs dataset.path=<file.npz>")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise UserError(f"dataset.path={config.path}: no such file")
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged archive raises every kind there is
        # NumPy takes any other file for a pickle, and says how one could be loaded.
        reason = "" if "pickle" in str(error) else f": {error}"
        raise UserError(f"{path} is not an .npz file{reason}") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UserError(f"{path} holds a single array; write it with np.savez(x_train=, y_train=)")
    with archive:
        train = _split(archive, path, "train", config.image_size)
        test = _split(archive, path, "test", config.image_size)
        valid = _split(archive, path, "valid", config.image_size)
        names = _array(archive, path, "class_names") if "class_names" in archive.files else None
    if train is None:
        found = ", ".join(archive.files) or "nothing"
        raise UserError(f"{path}: keys x_train and y_train are needed, found {found}")
    for other, key in ((test, "test"), (valid, "valid")):
        if other and other.images.dtype != train.images.dtype:
            raise UserError(
                f"{path}: x_train is {train.images.dtype} but x_{key} {other.images.dtype}"
                " after reading; use 0..255 integers, or floats in [0, 1], for both"
            )
    pixel_max = 255.0 if train.images.dtype == np.uint8 else 1.0
    return RawDataset(train, test, valid, _class_names(path, names, train.labels), pixel_max)


def _split(
    archive: np.lib.npyio.NpzFile, path: Path, name: str, size: int | None
) -> RawSplit | None:
    x_key = next((key for key in (f"x_{name}", f"{name}_images") if key in archive.files), None)
    y_key = next((key for key in (f"y_{name}", f"{name}_labels") if key in archive.files), None)
    if x_key is None and y_key is None:
        return None
    if x_key is None or y_key is None:
        missing = f"x_{name}" if x_key is None else f"y_{name}"
        raise UserError(f"{path}: key {missing} is missing, found {', '.join(archive.files)}")
    images = _images(path, x_key, _array(archive, path, x_key))
    labels = _labels(path, y_key, _array(archive, path, y_key))
    if len(images) != len(labels):
        raise UserError(f"{path}: {x_key} has {len(images)} images, {y_key} {len(labels)} labels")
    if not len(images):
        raise UserError(f"{path}: {x_key} is empty")
    return RawSplit(resize_all(images, size), labels)


def _array(archive: np.lib.npyio.NpzFile, path: Path, key: str) -> np.ndarray:
    try:
        return archive[key]
    except Exception as error:
        if "pickle" in str(error):
            raise UserError(
                f"{path}: {key} is an object array; only plain arrays are read"
            ) from None
        raise UserError(f"{path}: {key} cannot be read: {error}") from None


def _images(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """uint8 or float32 (n, h, w, c)."""
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise UserError(
            f"{path}: {key} has shape {array.shape}, expected (n, h, w) or (n, h, w, c)"
        )
    if channels_first(array.shape):
        raise UserError(
            f"{path}: {key} has shape {array.shape}, which looks like channels first; expected"
            f" (n, h, w, c): store {key}.transpose(0, 2, 3, 1)"
        )
    if array.shape[3] > 4:
        raise UserError(
            f"{path}: {key} has shape {array.shape}: {array.shape[3]} channels; expected"
            " (n, h, w, c) with 1 to 4 channels last"
        )
    if not array.size:
        return array
    if array.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: {key} is {array.dtype}, expected integers 0..255, or floats in [0, 1]"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path}: {key} contains NaN or infinity")
    low, high = array.min(), array.max()
    if array.dtype.kind in "iu" and low >= 0 and high == 1:
        raise UserError(
            f"{path}: {key} is {array.dtype} and holds only 0 and 1, almost black where 255 is"
            f" white; store 255 * {key}, or floats"
        )
    most = 1 if array.dtype.kind == "f" else 255
    if low < 0 or high > most:
        hint = "; divide by 255 or store uint8" if most == 1 and low >= 0 and high <= 255 else ""
        raise UserError(
            f"{path}: {key} is {array.dtype} with values from {low:g} to {high:g},"
            f" expected 0 to {most}{hint}"
        )
    return array.astype(np.float32 if array.dtype.kind == "f" else np.uint8)


def _labels(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """int32 (n,)."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = "; one-hot labels: store their argmax" if array.ndim == 2 else ""
        raise UserError(f"{path}: {key} has shape {array.shape}, expected (n,){hint}")
    if array.dtype.kind not in "iu":
        raise UserError(f"{path}: {key} is {array.dtype}, expected integers 0, 1, 2, ...")
    if array.size and (array.min() < 0 or array.max() >= 1 << 20):
        raise UserError(
            f"{path}: {key} runs from {array.min()} to {array.max()}, expected 0, 1, 2, ..."
        )
    return array.astype(np.int32)


def _class_names(path: Path, names: np.ndarray | None, labels: np.ndarray) -> tuple[str, ...]:
    classes = int(labels.max()) + 1
    present = np.unique(labels)
    if names is None:
        if len(present) < classes:
            missing = np.setdiff1d(np.arange(classes), present)[:5].tolist()
            raise UserError(
                f"{path}: y_train has labels up to {classes - 1} but none equal to"
                f" {', '.join(map(str, missing))}; number the classes 0, 1, 2, ... without gaps"
            )
        return tuple(map(str, range(classes)))
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(
            f"{path}: class_names is {names.dtype} {names.shape}, expected text (classes,)"
        )
    if len(names) < classes:
        raise UserError(f"{path}: {len(names)} class_names, but labels up to {classes - 1}")
    return tuple(names.tolist())
