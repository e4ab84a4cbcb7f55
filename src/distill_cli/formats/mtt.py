"""format mtt: files released by MTT (trajectory matching) and its followers.

images_best.pt (n, c, h, w) and labels_best.pt (n,) in one folder, or images_<step>.pt and
labels_<step>.pt. Images are preprocessed: per channel, or with ZCA without standardisation and a
constant 0.1 added to the eigenvalues. images_zca_*.pt are whitened back for viewing only and are
not read. (Program GeorgeCazenavette/mtt-distillation.)
"""

import re
from pathlib import Path

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, centred_targets, checked
from distill_cli.errors import UserError
from distill_cli.formats.torch_reader import read_torch

IMAGES = re.compile(r"images_(best|\d+)\.pt")


def read(path: Path, index: int = 0) -> CoresetFile:
    """A folder (its best set, else its last) or one images file with the labels beside it."""
    del index
    file = images_file(path)
    found = IMAGES.fullmatch(file.name)
    if found is None:
        raise UserError(f"coreset={path}: format mtt needs images_best.pt or images_<step>.pt")
    beside = file.with_name(f"labels_{found[1]}.pt")
    if not beside.is_file():
        raise UserError(f"coreset={file}: {beside.name} is missing beside it")
    images, labels = read_torch(file), read_torch(beside)
    for place, value in ((file, images), (beside, labels)):
        if not isinstance(value, np.ndarray):
            raise UserError(f"coreset={place}: format mtt needs one tensor in each file")
    if images.ndim != 4:
        raise UserError(f"coreset={file}: images must be (n, c, h, w), found {images.shape}")
    targets = centred_targets(beside, labels)
    return checked(file, "mtt", images.transpose(0, 2, 3, 1), targets, note=file.stem, origin="MTT")


def images_file(path: Path) -> Path:
    """The images file that a path stands for."""
    if not path.is_dir():
        return path
    found = {m[1]: item for item in path.iterdir() if (m := IMAGES.fullmatch(item.name))}
    if not found:
        raise UserError(f"coreset={path}: no images_best.pt or images_<step>.pt in it")
    best = "best" if "best" in found else max(found, key=lambda step: int(step))
    return found[best]
