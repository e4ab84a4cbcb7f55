"""format image_folder: pictures in one folder per class.

    <folder>/<class>/*.png         labels are the sorted order of the class folders
    <folder>/labels.npz            optional, as distill-export writes it: files, labels (n, class),
                                   log_temperature, class_names, ridge

Pictures are pixels, not preprocessed images: whoever reads them applies the dataset's preprocessing
(or that of a preprocess.npz in the folder). 8 bits per value: up to half a level is lost.
"""

import re
from pathlib import Path

import numpy as np

from distill_cli.core.coreset_io import (
    CoresetFile,
    centred_targets,
    checked,
    read_arrays,
    require,
    scalar,
)
from distill_cli.core.files import write_npz, write_whole
from distill_cli.errors import UserError
from distill_cli.formats.distill import names

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
NUMBERED = re.compile(r"\d+_(.+)")
LABELS = "labels.npz"


def read(path: Path, index: int = 0) -> CoresetFile:
    """Every picture, class after class or in the order of labels.npz; pixels in [0, 1]."""
    del index
    if not path.is_dir():
        raise UserError(f"coreset={path}: format image_folder needs a folder of class folders")
    if (path / LABELS).is_file():
        return with_labels(path)
    classes = class_folders(path)
    if len(classes) < 2:
        raise UserError(f"coreset={path}: at least 2 class folders with pictures are needed")
    files = [(file, label) for label, place in enumerate(classes) for file in pictures(place)]
    labels = np.array([label for _, label in files])
    shown = [numbered[1] if (numbered := NUMBERED.fullmatch(c.name)) else c.name for c in classes]
    return checked(
        path, "image_folder", stack(path, [file for file, _ in files]),
        centred_targets(path, labels, len(classes)), class_names=shown, pixels=True,
    )  # fmt: skip


def with_labels(path: Path) -> CoresetFile:
    """Pictures in the order, and with the labels, of labels.npz."""
    file = path / LABELS
    arrays = read_arrays(file)
    require(file, "image_folder", arrays, ("files", "labels"))
    listed = [path / str(name) for name in arrays["files"]]
    for picture in listed:
        inside = picture.resolve().is_relative_to(path.resolve())
        if not inside or picture.suffix.lower() not in SUFFIXES or not picture.is_file():
            raise UserError(f"coreset={path}: {LABELS} names {picture.name}, which is not in it")
    return checked(
        path, "image_folder", stack(path, listed), arrays["labels"],
        log_temperature=scalar(file, arrays, "log_temperature", 0.0),
        ridge=scalar(file, arrays, "ridge", None),
        ridge_weights=arrays.get("ridge_weights"), class_names=names(arrays), pixels=True,
    )  # fmt: skip


def write(
    folder: Path, found: CoresetFile, class_names: tuple[str, ...], levels: np.ndarray
) -> list[str]:
    """Write levels (n, h, w, 1 or 3) uint8 as <label>_<class>/<row>.png, and labels.npz."""
    from PIL import Image

    labels = np.asarray(found.coreset.labels, np.float32)
    digits, rows = len(str(len(class_names) - 1)), len(str(len(levels) - 1))
    files = []
    for row, (image, label) in enumerate(zip(levels, labels.argmax(1), strict=True)):
        safe = re.sub(r"[^\w.-]+", "_", class_names[label]).strip(".") or "class"
        name = f"{label:0{digits}d}_{safe}/{row:0{rows}d}.png"
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        write_whole(folder / name, lambda file, p=picture: p.save(file, "png"))
        files.append(name)
    arrays = {
        "files": np.array(files), "labels": labels, "class_names": np.array(class_names),
        "log_temperature": np.float64(found.coreset.log_temperature),
    }  # fmt: skip
    optional = {"ridge": found.ridge, "ridge_weights": found.ridge_weights}
    arrays |= {key: np.asarray(value) for key, value in optional.items() if value is not None}
    write_npz(folder / LABELS, arrays)
    return [*files, LABELS]


def class_folders(path: Path) -> list[Path]:
    """Sub-folders with pictures in them, sorted by name."""
    inside = sorted(item for item in path.iterdir() if item.is_dir() and item.name[0] != ".")
    return [item for item in inside if pictures(item)]


def pictures(folder: Path) -> list[Path]:
    """Picture files of a folder, sorted by name; hidden ones are skipped."""
    return sorted(
        item
        for item in folder.iterdir()
        if item.suffix.lower() in SUFFIXES and item.name[0] != "." and item.is_file()
    )


def stack(path: Path, files: list[Path]) -> np.ndarray:
    """(n, h, w, c) float32 in [0, 1]; grey unless any picture is in colour."""
    from PIL import Image

    levels = []
    for file in files:
        try:
            with Image.open(file) as picture:
                grey = picture.mode in ("1", "L", "LA")
                image = np.asarray(picture.convert("L" if grey else "RGB"))
        except Exception as error:  # Pillow raises every kind there is
            raise UserError(f"coreset={file}: cannot be read as a picture ({error})") from None
        levels.append(image[..., None] if grey else image)
    sizes = {image.shape[:2] for image in levels}
    if len(sizes) > 1:
        raise UserError(f"coreset={path}: pictures of several sizes, {sorted(sizes)[:4]}")
    channels = max(image.shape[2] for image in levels)
    shape = (*next(iter(sizes)), channels)
    whole = np.stack([np.broadcast_to(image, shape) for image in levels])
    return whole.astype(np.float32) / np.float32(255)
