"""Datasets prepared by TensorFlow Datasets in array_record form, read without TensorFlow.

A split is decoded once into one uint8 array and kept in the cache; a second run imports nothing
but NumPy. TensorFlow is imported only to download and prepare a dataset that is not there.
"""

import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.data.cache import Arrays, cache_key, cached, file_states
from distill_cli.data.config import DatasetConfig
from distill_cli.data.online import online
from distill_cli.data.raw import RawDataset, RawSplit, content_digest
from distill_cli.data.standalone_load import resize
from distill_cli.errors import UserError

CHUNK = 1000
log = logging.getLogger(__name__)


def read(config: DatasetConfig) -> RawDataset:
    """The splits that the configuration names; class names from the dataset's own description."""
    if not config.tfds_name:
        raise UserError(f"dataset.tfds_name is not set: dataset {config.name} has source=tfds")
    folder = find_prepared(config) or _download(config)
    names: list[tuple[str, ...]] = []

    def split(name: str | None) -> RawSplit | None:
        if name is None:
            return None
        entry = _cached_split(config, folder, name)
        names.append(tuple(entry["class_names"].tolist()))
        return RawSplit(entry["images"], entry["labels"], str(entry["digest"]))

    train, test, valid = map(split, (config.train_split, config.test_split, config.valid_split))
    assert train is not None
    return RawDataset(train, test, valid, max(names, key=len), pixel_max=255.0)


def data_root(config: DatasetConfig) -> Path:
    """dataset.data_dir, else $TFDS_DATA_DIR, else the default of TFDS."""
    chosen = config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()


def find_prepared(config: DatasetConfig) -> Path | None:
    """The folder <data_dir>/<tfds_name>/<version>, newest or pinned version, if it is there."""
    base = data_root(config) / str(config.tfds_name)
    versions: list[tuple[tuple[int, ...], Path]] = []
    for info in base.glob("*/dataset_info.json"):
        parts = info.parent.name.split(".")
        if all(part.isdigit() for part in parts) and config.version in (None, info.parent.name):
            versions.append((tuple(map(int, parts)), info.parent))
    usable = [entry for entry in versions if _file_format(entry[1]) == "array_record"]
    if versions and not usable:
        folder = max(versions)[1]
        raise UserError(
            f"dataset {config.name}: {folder} is in {_file_format(folder)} form, but only"
            f" array_record can be read; prepare it in another folder with: {_command(config)}"
            " and point dataset.data_dir= there"
        )
    if not usable and (reason := misplaced(config, base)):
        raise UserError(f"dataset {config.name}: {reason}")
    return max(usable)[1] if usable else None


def misplaced(config: DatasetConfig, base: Path) -> str | None:
    """Why nothing usable is below <data_dir>/<tfds_name>, where something is there."""
    name = str(config.tfds_name).split("/")[0]
    for place in (base.parent, base.parent.parent):
        if place.name == name and any(place.rglob("dataset_info.json")):
            where = f"dataset.data_dir={base.parent}"
            return f"{where} is in the dataset's own folder; give {place.parent}"
    found = sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    if found and not any(base.glob("*/dataset_info.json")):
        return f"{base / found[-1]} has no dataset_info.json, so it is no whole TFDS folder"
    return None


def read_records(
    source: Any, label_key: str, image_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """All records of a random-access source as uint8 images (n, h, w, c) and int32 labels (n,)."""
    images: np.ndarray | None = None
    labels = np.empty(len(source), dtype=np.int32)
    for start in range(0, len(source), CHUNK):
        chunk = range(start, min(start + CHUNK, len(source)))
        for row, record in zip(chunk, source.__getitems__(list(chunk)), strict=True):
            image = resize(np.asarray(_feature(record, "image")), image_size)
            if images is None:
                images = np.empty((len(source), *image.shape), dtype=np.uint8)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape != images.shape[1:]:
                raise UserError(
                    f"image {row} is {image.dtype} {image.shape} while the first is"
                    f" uint8 {images.shape[1:]}; dataset.image_size=<pixels> makes sizes equal"
                )
            images[row] = image
            labels[row] = int(_feature(record, label_key))
    if images is None:
        raise UserError("the split is empty")
    return images, labels


def _cached_split(config: DatasetConfig, folder: Path, split: str) -> Arrays:
    key = cache_key(
        split=split,
        label_key=config.label_key,
        image_size=config.image_size,
        files=file_states([file for file in folder.iterdir() if file.is_file()], folder),
    )
    name = f"{config.tfds_name}-{folder.name}".replace("/", "_")
    return cached(name, key, lambda: _read_split(config, folder, split), config.cache)


def _read_split(config: DatasetConfig, folder: Path, split: str) -> Arrays:
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # TFDS advises OpenCV on every run
    where = f"dataset {config.name}: split {split!r} of {folder}"
    try:
        builder: Any = tfds.builder_from_directory(folder)
        known = builder.info.splits
        if split.split("[")[0].split("+")[0] not in known:
            raise UserError(f"{where}: no such split; there are {', '.join(known)}")
        images, labels = read_records(
            builder.as_data_source(split=split), config.label_key, config.image_size
        )
        class_names = _class_names(builder.info.features, config.label_key, labels)
    except UserError as error:
        raise error if where in str(error) else UserError(f"{where}: {error}") from None
    except Exception as error:  # TFDS, array_record and the decoders raise every kind there is
        raise UserError(f"{where} cannot be read: {_first_line(error)}") from error
    return {
        "images": images,
        "labels": labels,
        "class_names": np.array(class_names, dtype=np.str_),
        "digest": np.array(content_digest(images, labels)),
    }


def _class_names(features: Any, label_key: str, labels: np.ndarray) -> list[str]:
    feature = _feature(features, label_key)
    return list(getattr(feature, "names", None) or map(str, range(int(labels.max()) + 1)))


def _feature(record: Any, key: str) -> Any:
    """record[a][b] for the key a/b."""
    for part in key.split("/"):
        if not hasattr(record, "keys") or part not in record.keys():  # noqa: SIM118
            found = ", ".join(record.keys()) if hasattr(record, "keys") else "a plain value"
            raise UserError(f"no feature {key!r}; found {found}")
        record = record[part]
    return record


def _file_format(folder: Path) -> str:
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'dataset_info.json'} cannot be read: {error}") from None
    return str(info.get("fileFormat", "tfrecord"))


def _download(config: DatasetConfig) -> Path:
    root = data_root(config)
    looked = f"dataset {config.name}: {config.tfds_name}"
    if config.version:
        looked += f" {config.version}"
    looked += f" is not prepared in {root}"
    if there := [path.parent.name for path in root.glob(f"{config.tfds_name}/*/dataset_info.json")]:
        looked += f", which has {', '.join(sorted(there))}"
    if not config.download:
        raise UserError(
            f"{looked}; put the prepared folder (array_record) there, or point"
            " dataset.data_dir= to it"
        )
    advice = f"get it with: {_command(config)} or point dataset.data_dir= to a folder that has it"
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f"{looked}, and downloading it needs the package tensorflow; {advice}")
    if not online():
        raise UserError(f"{looked}, and there is no network to download it; {advice}")
    log.warning("%s; downloading it", looked)
    import tensorflow_datasets as tfds

    name = _pinned_name(config)
    try:
        tfds.data_source(name, data_dir=root, builder_kwargs={"file_format": "array_record"})
    except Exception as error:
        raise UserError(
            f"{looked}, and the download failed ({_first_line(error)}); {advice}"
        ) from error
    folder = find_prepared(config)
    if folder is None:
        raise UserError(f"{looked}, even after the download; {advice}")
    return folder


def _command(config: DatasetConfig) -> str:
    return (
        'python -c "import tensorflow_datasets as tfds;'
        f" tfds.data_source('{_pinned_name(config)}', data_dir='{data_root(config)}',"
        " builder_kwargs={'file_format': 'array_record'})\""
    )


def _pinned_name(config: DatasetConfig) -> str:
    return f"{config.tfds_name}:{config.version}" if config.version else str(config.tfds_name)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
