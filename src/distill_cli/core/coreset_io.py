"""Coreset files: our own npz, and reading any known format through distill_cli.formats.

Imports no jax before a coreset is made: the command line looks at files before it starts.
"""

import hashlib
import importlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_cli.core.files import read_json, write_npz
from distill_cli.errors import UserError, choice_error

if TYPE_CHECKING:
    from distill_cli.core.types import Coreset

# Each is a module distill_cli.formats.<name> with `read(path, index) -> CoresetFile`.
FORMATS = (
    "distill", "rfad", "kip", "frepo", "dc", "mtt", "npz", "safetensors", "torch", "image_folder",
)  # fmt: skip


@dataclass(frozen=True)
class CoresetFile:
    """A coreset as it was found: arrays on the host, class names and ridge where recorded.

    ridge is relative to trace(K_ss)/n, None where the file does not say; ridge_weights (n,) scale
    it for each image, None: 1. path: the file, or the folder of an image_folder. pixels: images are
    raw pixels in [0, 1], still to be preprocessed; otherwise they are in preprocessed space.
    note: what was chosen among several contents. origin: whose it is, a key of formats.origins.
    """

    coreset: "Coreset"
    class_names: tuple[str, ...] | None
    ridge: float | None
    path: Path
    format: str = "distill"
    pixels: bool = False
    note: str = ""
    ridge_weights: np.ndarray | None = None
    origin: str = ""

    @property
    def folder(self) -> Path:
        """The folder that it lies in, or that it is."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def transform(self) -> Path | None:
        """The preprocess.npz that belongs to it; None where there is none."""
        places = [self.folder, self.folder.parent] if self.format == "distill" else [self.folder]
        files = (place / "preprocess.npz" for place in places)
        return next((file for file in files if file.is_file()), None)


def save_coreset(
    path: Path,
    coreset: "Coreset",
    class_names: Sequence[str],
    ridge: float | None,
    ridge_weights: np.ndarray | None = None,
) -> None:
    """Keys images (n, h, w, c) float32, labels (n, class) float32, log_temperature, class_names,
    ridge where the method has one, and ridge_weights (n,) where the start has them."""
    arrays = {
        "images": np.asarray(coreset.images, np.float32),
        "labels": np.asarray(coreset.labels, np.float32),
        "log_temperature": np.asarray(coreset.log_temperature, np.float64),
        "class_names": np.array(class_names, dtype=np.str_),
    }
    if ridge is not None:
        arrays["ridge"] = np.asarray(ridge, np.float64)
    if ridge_weights is not None:
        arrays["ridge_weights"] = np.asarray(ridge_weights, np.float64)
    write_npz(path, arrays)


def load_coreset(path: str | Path, format: str = "auto", index: int = 0) -> CoresetFile:
    """Read a run folder, a coreset folder or a coreset file, ours or another program's.

    format: one of FORMATS, or auto: recognised by name and content. index: which experiment of a
    file that holds several (dc). Raises UserError for a missing, unreadable or malformed file;
    nothing that a file contains is ever executed.
    """
    if format not in ("auto", *FORMATS):
        raise choice_error("coreset.format", format, ("auto", *FORMATS))
    place = Path(path).expanduser()
    if format == "auto":
        format = importlib.import_module("distill_cli.formats.detect").detect(place)
    if index and format != "dc":
        raise UserError(f"coreset.index={index}: format {format} holds one coreset only")
    if not place.exists():
        raise UserError(f"coreset={place}: no such file or folder")
    return importlib.import_module(f"distill_cli.formats.{format}").read(place, index)


def checked(
    file: Path, format: str, images: np.ndarray, labels: np.ndarray, *,
    log_temperature: float = 0.0, ridge: float | None = None,
    class_names: Sequence[Any] | None = None, pixels: bool = False, note: str = "",
    ridge_weights: Any = None, origin: str = "",
) -> CoresetFile:  # fmt: skip
    """A CoresetFile of images (n, h, w, c) and soft labels (n, class), both floats and finite;
    ridge_weights (n,) above 0.

    Raises UserError that names the file otherwise.
    """
    for key, array, axes in (("images", images, 4), ("labels", labels, 2)):
        if array.ndim != axes or not np.issubdtype(array.dtype, np.floating):
            raise UserError(
                f"coreset={file}: {key} must be {axes}-dimensional floats, found "
                f"{array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise UserError(f"coreset={file}: {key} contains NaN or infinite values")
    if len(images) != len(labels) or not len(images):
        raise UserError(f"coreset={file}: {len(images)} images but {len(labels)} labels")
    if ridge_weights is not None:
        ridge_weights = np.asarray(ridge_weights, np.float64)
        if ridge_weights.shape != labels.shape[:1] or not (
            np.isfinite(ridge_weights).all() and ridge_weights.min() > 0
        ):
            raise UserError(f"coreset={file}: ridge_weights must be {len(labels)} numbers above 0")
    from distill_cli.core.types import Coreset

    numbers = {"log_temperature": log_temperature, "ridge": 0.0 if ridge is None else ridge}
    numbers = {key: np.asarray(value) for key, value in numbers.items()}
    temperature = scalar(file, numbers, "log_temperature", 0.0)
    scalar(file, numbers, "ridge", 0.0)
    coreset = Coreset(
        np.ascontiguousarray(images, np.float32),
        np.asarray(labels, np.float32),
        np.asarray(temperature, np.float64),
    )
    names = None if class_names is None else tuple(map(str, class_names))
    return CoresetFile(coreset, names, ridge, file, format, pixels, note, ridge_weights, origin)


def record(place: Path) -> dict[str, Any]:
    """result.json of the run, or manifest.json of the export, that a path belongs to; else {}.

    place: the run folder, or anything up to three levels below it (coreset/steps/<step>.npz).
    """
    for folder in (place, *list(place.parents)[:3]):
        for name in ("result.json", "manifest.json"):
            found = read_json(folder / name)
            if isinstance(found, dict) and "command" in found:
                return found
    return {}


def centred_targets(file: Path, labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """Labels as regression targets (n, class) float32.

    Integers (n,) become one-hot minus 1/classes (classes: the largest label + 1 unless given);
    two-dimensional floats stay as they are.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and np.issubdtype(labels.dtype, np.floating):
        return labels.astype(np.float32)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise UserError(
            f"coreset={file}: labels must be integers (n,) or floats (n, classes), found "
            f"{labels.dtype} {labels.shape}"
        )
    count = int(labels.max()) + 1 if classes is None else classes
    if labels.min() < 0 or count < 2 or labels.max() >= count or count > 100_000:
        raise UserError(
            f"coreset={file}: integer labels run from {labels.min()} to {labels.max()}; expected "
            "0 to classes - 1, at least two classes"
        )
    return np.eye(count, dtype=np.float32)[labels] - np.float32(1.0 / count)


def class_counts(labels: np.ndarray) -> np.ndarray | None:
    """Images of each class (class,), from labels (n, class) with one highest value a row and the
    others equal; None where they are soft or learned and the number of images does not divide
    evenly: then nothing says which class an image is of. Soft ones that do count as class-major.
    """
    count, classes = labels.shape
    top = labels.argmax(1)
    rest = labels[np.arange(classes) != top[:, None]].reshape(count, classes - 1)
    if classes > 1 and (rest == rest[:, :1]).all() and (rest[:, 0] < labels.max(1)).all():
        return np.bincount(top, minlength=classes)
    return None if count % classes else np.full(classes, count // classes)


def require(file: Path, format: str, arrays: dict[str, np.ndarray], keys: Sequence[str]) -> None:
    """UserError unless all keys are there."""
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise UserError(
            f"coreset={file}: format {format} needs the keys {', '.join(keys)}; "
            f"missing {', '.join(missing)}, found {', '.join(sorted(arrays)) or 'none'}"
        )


def read_arrays(file: Path, key: str = "coreset") -> dict[str, np.ndarray]:
    """All arrays of an npz; object arrays and other files are refused. key: how it was given."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{key}={file}: a single array; an npz with named arrays is needed")
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if not zipfile.is_zipfile(file):
            raise UserError(f"{key}={file}: not an npz file") from error
        if "pickle" in str(error).lower() or "Object arrays" in str(error):
            raise UserError(
                f"{key}={file}: holds pickled objects, which are never loaded"
            ) from error
        raise UserError(f"{key}={file}: unreadable ({error})") from error
    except (OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{key}={file}: not a readable npz file ({error})") from error


def scalar(file: Path, arrays: dict[str, np.ndarray], key: str, default: Any) -> Any:
    """A single finite number stored under key."""
    if key not in arrays:
        return default
    value = np.asarray(arrays[key])
    if value.size != 1 or not np.issubdtype(value.dtype, np.number) or not np.isfinite(value).all():
        raise UserError(f"coreset={file}: {key} must be one finite number, found {value!r:.60}")
    return float(value.reshape(()))


def sha256(path: Path) -> str:
    """Hex digest of a file; of a folder's names and files together, in sorted order."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    total = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return total.hexdigest()
