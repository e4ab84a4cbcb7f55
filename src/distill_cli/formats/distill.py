"""format distill: this program's own coreset.npz."""

from pathlib import Path

from distill_cli.core.coreset_io import CoresetFile, checked, read_arrays, require, scalar
from distill_cli.errors import UserError

KEYS = ("images", "labels", "log_temperature")


def read(path: Path, index: int = 0) -> CoresetFile:
    """A run folder, its coreset/ folder, or the npz. images NHWC and labels (n, class), floats."""
    del index
    file = find(path)
    arrays = read_arrays(file)
    require(file, "distill", arrays, KEYS)
    return checked(
        file, "distill", arrays["images"], arrays["labels"],
        log_temperature=scalar(file, arrays, "log_temperature", 0.0),
        ridge=scalar(file, arrays, "ridge", None),
        ridge_weights=arrays.get("ridge_weights"), class_names=names(arrays),
    )  # fmt: skip


def names(arrays: dict) -> list[str] | None:
    """class_names as stored, None where they are not."""
    return None if "class_names" not in arrays else [str(name) for name in arrays["class_names"]]


def find(path: Path) -> Path:
    """The npz file that a path stands for."""
    for candidate in (path, path / "coreset" / "coreset.npz", path / "coreset.npz"):
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise UserError(f"coreset={path}: no coreset/coreset.npz in it; is the run finished?")
    raise UserError(f"coreset={path}: no such file or folder")
