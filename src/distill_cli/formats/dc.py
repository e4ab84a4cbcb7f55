"""format dc: files released by DC, DSA and DM.

A .pt with `data`, a list of [images (n, c, h, w), labels (n,)] of independent experiments (five as
a rule), and `accs_all_exps`, the accuracies measured. Images are standardised per channel with the
constants below; labels are integers. (Program VICO-UoE/DatasetCondensation.)
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, centred_targets, checked
from distill_cli.errors import UserError
from distill_cli.formats.torch_reader import read_torch

# (mean, deviation) per channel on [0, 1] pixels, by this program's dataset names.
CONSTANTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def read(path: Path, index: int = 0) -> CoresetFile:
    """Experiment number `index`, from 0."""
    if not path.is_file():
        raise UserError(f"coreset={path}: format dc needs the .pt file itself")
    return from_tree(path, read_torch(path), index)


def from_tree(path: Path, tree: Any, index: int) -> CoresetFile:
    """The experiment in what the file holds."""
    data = tree.get("data") if isinstance(tree, dict) else None
    if not isinstance(data, list | tuple) or not data:
        raise UserError(f"coreset={path}: format dc needs `data`, a list of [images, labels] pairs")
    if not 0 <= index < len(data):
        raise UserError(
            f"coreset.index={index}: {path} holds {len(data)} experiments, 0 to {len(data) - 1}"
        )
    pair = data[index]
    tensors = isinstance(pair, list | tuple) and len(pair) == 2
    if not tensors or not all(isinstance(part, np.ndarray) for part in pair):
        raise UserError(f"coreset={path}: experiment {index} is not a pair of tensors")
    images, labels = pair
    if images.ndim != 4:
        raise UserError(f"coreset={path}: images must be (n, c, h, w), found {images.shape}")
    note = f"experiment {index} of {len(data)}"
    method = re.match(r"res_(DC|DSA|DM)_", path.name)  # as the authors' program names its files
    return checked(
        path, "dc", images.transpose(0, 2, 3, 1), centred_targets(path, labels), note=note,
        origin=method[1] if method else "DC, DSA or DM",
    )  # fmt: skip
