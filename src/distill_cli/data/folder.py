"""The user's own image files, one folder per class.

    <path>/<train_split>/<class>/*.png and, optionally, <path>/<test_split>/<class>/*.png
    <path>/<class>/*.png                       test_fraction of every class is held out

Classes are numbered in the sorted order of their folders' names. Hidden files and other file types
are passed over. Grey files stay grey (1 channel) unless any file of the dataset is in colour;
transparency is dropped, and the camera's orientation mark is obeyed.
"""

from pathlib import Path

import numpy as np

from distill_cli.data.cache import Arrays, cache_key, cached, file_states
from distill_cli.data.config import DatasetConfig
from distill_cli.data.images import resize
from distill_cli.data.raw import RawDataset, RawSplit
from distill_cli.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
GREY = ("1", "L", "LA")
DEEP = ("I", "F")  # more than 8 bits in one channel; "I;16" starts with "I"
Files = list[tuple[Path, int]]


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
    key = cache_key(image_size=config.image_size, files=file_states(everything, root))
    arrays = cached("folder", key, lambda: _read_all(files, config.image_size), config.cache)

    def split(name: str) -> RawSplit | None:
        if name not in files:
            return None
        return RawSplit(arrays[name], np.array([label for _, label in files[name]], dtype=np.int32))

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


def _read_all(files: dict[str, Files], size: int | None) -> Arrays:
    images = {name: [_read_image(path) for path, _ in listed] for name, listed in files.items()}
    channels = max(image.shape[2] for listed in images.values() for image in listed)
    first = files["train"][0][0]
    shape: tuple[int, ...] | None = None
    arrays: Arrays = {}
    for name, listed in images.items():
        resized = []
        for (path, _), image in zip(files[name], listed, strict=True):
            image = resize(image, size)
            shape = shape or image.shape[:2]
            if image.shape[:2] != shape:
                raise UserError(
                    f"{path} is {_size(image.shape)} pixels (width x height) while {first} is"
                    f" {_size(shape)}; dataset.image_size=<pixels> resizes all images to a square"
                )
            resized.append(np.broadcast_to(image, (*shape, channels)))
        arrays[name] = np.stack(resized)
    return arrays


def _read_image(path: Path) -> np.ndarray:
    """uint8 (height, width, 1 or 3)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            mode = opened.mode
            picture = ImageOps.exif_transpose(opened)
            if mode.startswith(DEEP):
                raise ValueError(f"more than 8 bits per pixel (mode {mode}); convert it to 8 bits")
            picture = picture.convert("L" if mode in GREY else "RGB")
    except Exception as error:  # Pillow raises every kind there is
        reason = "the file is empty" if path.stat().st_size == 0 else str(error)
        raise UserError(f"{path} cannot be read as an image: {reason}") from None
    image = np.asarray(picture)
    return image if image.ndim == 3 else image[..., None]


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
