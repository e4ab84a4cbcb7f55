"""format npz: anybody's npz with the keys images and labels (or image and label, or x and y)."""

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
from distill_cli.errors import UserError
from distill_cli.formats.distill import names

ALIASES = {"images": ("images", "image", "x"), "labels": ("labels", "label", "y")}


def read(path: Path, index: int = 0) -> CoresetFile:
    """images floats (n, h, w, c), or (n, c, h, w) where only the second axis can be channels;
    labels integers (n,) or floats (n, class). Images count as preprocessed already."""
    del index
    file = one_file(path, "npz", "coreset.npz")
    arrays = read_arrays(file)
    for key, others in ALIASES.items():
        found = next((name for name in others if name in arrays), None)
        if found:
            arrays.setdefault(key, arrays[found])
    require(file, "npz", arrays, ("images", "labels"))
    stored = names(arrays)
    return checked(
        file, "npz", channels_last(arrays["images"]),
        centred_targets(file, arrays["labels"], None if stored is None else len(stored)),
        log_temperature=scalar(file, arrays, "log_temperature", 0.0),
        ridge=scalar(file, arrays, "ridge", None),
        ridge_weights=arrays.get("ridge_weights"), class_names=stored,
    )  # fmt: skip


def channels_last(images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) to (n, h, w, c) where the shape says so beyond doubt; otherwise unchanged."""
    return images.transpose(0, 2, 3, 1) if channels_first(images.shape) else images


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether only the second axis can be channels: one or three of them, and not so the last."""
    return len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)


def one_file(path: Path, format: str, usual: str) -> Path:
    """The file itself, or the one of the usual name in a folder."""
    file = path / usual if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"coreset={path}: format {format} needs a file; no {usual} in this folder")
    return file
