"""format torch: coreset.pt, as distill-export writes it for PyTorch.

A dict of tensors: images (n, c, h, w) float32, labels (n, class) float32, hard_labels (n,) int64,
and log_temperature, class_names, ridge (None where unknown).
"""

from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, checked
from distill_cli.core.files import write_whole
from distill_cli.errors import UserError
from distill_cli.formats.npz import one_file
from distill_cli.formats.torch_reader import read_torch
from distill_cli.formats.torch_writer import write_torch

FILE = "coreset.pt"


def read(path: Path, index: int = 0) -> CoresetFile:
    """UserError unless it is such a dict."""
    del index
    file = one_file(path, "torch", FILE)
    return from_tree(file, read_torch(file))


def from_tree(file: Path, tree: Any) -> CoresetFile:
    """The coreset in what the file holds."""
    arrays = tree if isinstance(tree, dict) else {}
    images, labels = arrays.get("images"), arrays.get("labels")
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        raise UserError(f"coreset={file}: format torch needs a dict with tensors images and labels")
    if images.ndim != 4:
        raise UserError(f"coreset={file}: images must be (n, c, h, w), found {images.shape}")
    return checked(
        file, "torch", images.transpose(0, 2, 3, 1), labels, class_names=arrays.get("class_names"),
        log_temperature=arrays.get("log_temperature") or 0.0, ridge=arrays.get("ridge"),
        ridge_weights=arrays.get("ridge_weights"),
    )  # fmt: skip


def write(folder: Path, found: CoresetFile, class_names: tuple[str, ...]) -> list[str]:
    """Write coreset.pt; returns the file names."""
    coreset = found.coreset
    tree = {
        "images": np.ascontiguousarray(coreset.images.transpose(0, 3, 1, 2), np.float32),
        "labels": np.asarray(coreset.labels, np.float32),
        "hard_labels": np.asarray(coreset.labels).argmax(1).astype(np.int64),
        "log_temperature": float(coreset.log_temperature),
        "class_names": list(class_names),
        "ridge": found.ridge,
    }
    if found.ridge_weights is not None:
        tree["ridge_weights"] = found.ridge_weights
    write_whole(folder / FILE, lambda file: write_torch(file, tree))
    return [FILE]
