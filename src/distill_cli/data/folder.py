"""The user's own image files, one folder per class.

    <path>/<train_split>/<class>/*.png and, optionally, <path>/<test_split>/<class>/*.png
    <path>/<class>/*.png                       test_fraction of every class is held out

Classes are numbered in the sorted order of their folders' names. Hidden files and other file types
are skipped. Grey files stay grey (1 channel) unless any file of the dataset is in colour;
16 bits become 8, transparent pixels lie on dataset.background, and the camera's orientation mark
is obeyed (standalone_load.py, which reads new pictures in the same way).
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.data.cache import Arrays, cache_key, cached, file_states
from distill_cli.data.config import DatasetConfig
from distill_cli.data.raw import RawDataset, RawSplit
from distill_cli.data.standalone_load import read_picture, resize, with_channels
from distill_cli.errors import UserError, first_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
NAMED = 10  # files that a message names
Files = list[tuple[Path, int]]
log = logging.getLogger(__name__)


def read(config: DatasetConfig) -> RawDataset:
    """All splits as uint8 of one size; a UserError names the file that does not fit."""
    if not config.path:
        raise UserError(
            "dataset.path is not set: dataset.source=folder needs dataset.path=<folder>"
        )
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(f"dataset.path={config.path}: no such folder")
    folders = _split_folders(config, root)
    classes = _class_folders(folders["train"])
    if len(classes) < 2:
        raise UserError(
            f"{folders['train']}: at least 2 class folders are needed, found"
            f" {', '.join(classes) or 'none'}"
        )
    files = {name: _list_files(folder, classes) for name, folder in folders.items()}
    everything = [path for listed in files.values() for path, _ in listed]
    key = cache_key(
        image_size=config.image_size, files=file_states(everything, root), layout=2,
        background=config.background, skip_unreadable=config.skip_unreadable,
    )  # fmt: skip
    arrays = cached("folder", key, lambda: _read_all(files, config), config.cache)

    def split(name: str) -> RawSplit | None:
        if name not in files:
            return None
        return RawSplit(arrays[name], arrays[f"{name}_labels"].astype(np.int32))

    train = split("train")
    assert train is not None
    return RawDataset(train, split("test"), split("valid"), tuple(classes), pixel_max=255.0)


def _split_folders(config: DatasetConfig, root: Path) -> dict[str, Path]:
    train = root / config.train_split
    if not (train.is_dir() and _class_folders(train)):  # a class may be called "train"
        for name in (config.test_split, config.valid_split):
            if name and (root / name).is_dir() and _class_folders(root / name):
                raise UserError(f"{root} has a folder {name} but no {config.train_split}")
        return {"train": root}
    folders = {"train": train}
    if config.test_split and (root / config.test_split).is_dir():
        folders["test"] = root / config.test_split
    if config.valid_split:
        folders["valid"] = root / config.valid_split
        if not folders["valid"].is_dir():
            raise UserError(f"dataset.valid_split={config.valid_split}: no such folder in {root}")
    return folders


def _class_folders(folder: Path) -> list[str]:
    try:
        entries = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(name for name in entries if name[0] != ".")


def _list_files(folder: Path, classes: list[str]) -> Files:
    files: Files = []
    for name in _class_folders(folder):
        if name not in classes:
            raise UserError(
                f"{folder / name}: class {name} is not among the training classes"
                f" {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
            )
        found = sorted(
            path
            for path in (folder / name).iterdir()
            if path.name[0] != "." and path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not found:
            raise UserError(
                f"{folder / name}: no images ({', '.join(SUFFIXES)}) in this class folder"
            )
        files += [(path, classes.index(name)) for path in found]
    if not files:
        raise UserError(f"{folder}: no class folders in it")
    return files


def _read_all(files: dict[str, Files], config: DatasetConfig) -> Arrays:
    """Images and labels of every split. UserError that names every file that cannot be read, unless
    they are to be left out."""
    images: dict[str, list[tuple[Path, int, np.ndarray]]] = {name: [] for name in files}
    unreadable = []
    for name, listed in files.items():
        for path, label in listed:
            try:
                images[name].append((path, label, _read_image(path, config)))
            except Exception as error:  # Pillow raises every kind there is
                reason = "empty file" if path.stat().st_size == 0 else " ".join(str(error).split())
                unreadable.append(f"{path} ({reason.removesuffix('.')})")
    if unreadable and not config.skip_unreadable:
        raise UserError(
            f"{len(unreadable)} of {sum(map(len, files.values()))} files cannot be read as images: "
            f"{first_of(unreadable, NAMED)}; mend or remove them, or give "
            "dataset.skip_unreadable=true"
        )
    if unreadable:
        log.warning("left out, unreadable: %s", first_of(unreadable, NAMED))
    lost = {label for _, label in files["train"]} - {label for _, label, _ in images["train"]}
    if lost:
        names = sorted({path.parent.name for path, label in files["train"] if label in lost})
        raise UserError(f"none of the files of class {', '.join(names)} can be read as an image")
    channels = max(image.shape[2] for listed in images.values() for _, _, image in listed)
    return {
        key: value
        for name, listed in images.items()
        for key, value in _stacked(name, listed, images["train"][0], channels).items()
    }


def _stacked(
    name: str, listed: list[tuple[Path, int, np.ndarray]], first: Any, channels: int
) -> Arrays:
    """One split's arrays. UserError at the first image of another size than the first of all."""
    shape = first[2].shape[:2]
    for path, _, image in listed:
        if image.shape[:2] != shape:
            raise UserError(
                f"{path} is {_size(image.shape)} pixels (width x height) while {first[0]} is"
                f" {_size(shape)}; dataset.image_size=<pixels> resizes all images to a square"
            )
    images = [with_channels(image, channels) for _, _, image in listed]
    return {name: np.stack(images), f"{name}_labels": np.array([label for _, label, _ in listed])}


def _read_image(path: Path, config: DatasetConfig) -> np.ndarray:
    """uint8 (height, width, 1 or 3), resized."""
    return resize(read_picture(path, config.background), config.image_size)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
