"""Reading and writing coresets as npz files that need nothing but NumPy."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.core.files import write_npz
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError, choice_error

FORMATS = ("auto", "distill", "rfad")
REQUIRED = {"distill": ("images", "labels", "log_temperature"), "rfad": ("images", "labels")}


@dataclass(frozen=True)
class CoresetFile:
    """A coreset as it was found: arrays on the host, class names and ridge where recorded.

    ridge is relative to trace(K_ss)/n, None where the file does not say.
    """

    coreset: Coreset
    class_names: tuple[str, ...] | None
    ridge: float | None
    path: Path


def save_coreset(
    path: Path, coreset: Coreset, class_names: Sequence[str], ridge: float | None
) -> None:
    """Keys images (n, h, w, c) float32, labels (n, class) float32, log_temperature, class_names,
    and ridge where the method has one."""
    arrays = {
        "images": np.asarray(coreset.images, np.float32),
        "labels": np.asarray(coreset.labels, np.float32),
        "log_temperature": np.asarray(coreset.log_temperature, np.float64),
        "class_names": np.array(class_names, dtype=np.str_),
    }
    if ridge is not None:
        arrays["ridge"] = np.asarray(ridge, np.float64)
    write_npz(path, arrays)


def load_coreset(path: str | Path, format: str = "auto") -> CoresetFile:
    """Read a run folder, a coreset folder, or an npz file.

    format distill: our own keys. rfad: the keys of the released RFAD files (images NCHW, labels,
    k, jit; already preprocessed). auto: told apart by the keys. Raises UserError for a missing,
    unreadable or malformed file; never unpickles.
    """
    if format not in FORMATS:
        raise choice_error("coreset.format", format, FORMATS)
    file = find(Path(path).expanduser())
    arrays = read_arrays(file)
    if format == "auto":
        format = "rfad" if "k" in arrays and "log_temperature" not in arrays else "distill"
    missing = [key for key in REQUIRED[format] if key not in arrays]
    if missing:
        raise UserError(
            f"coreset={file}: format {format} needs the keys {', '.join(REQUIRED[format])}; "
            f"missing {', '.join(missing)}, found {', '.join(sorted(arrays)) or 'none'}"
        )
    images, labels = arrays["images"], arrays["labels"]
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
    if format == "rfad":
        images = images.transpose(0, 2, 3, 1)
    k = scalar(file, arrays, "k" if format == "rfad" else "log_temperature", 0.0)
    ridge = scalar(file, arrays, "jit" if format == "rfad" else "ridge", None)
    names = arrays.get("class_names")
    coreset = Coreset(
        np.ascontiguousarray(images, np.float32),
        np.asarray(labels, np.float32),
        np.asarray(k, np.float64),
    )
    return CoresetFile(coreset, None if names is None else tuple(map(str, names)), ridge, file)


def find(path: Path) -> Path:
    """The npz file that a path stands for."""
    candidates = [path, path / "coreset" / "coreset.npz", path / "coreset.npz"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise UserError(f"coreset={path}: no coreset/coreset.npz in it; is the run finished?")
    raise UserError(f"coreset={path}: no such file or folder")


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz; object arrays and other files are refused."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(
                    f"coreset={file}: a single array; an npz with named arrays is needed"
                )
            return {key: archive[key] for key in archive.files}
    except ValueError as error:
        if "pickle" in str(error).lower() or "Object arrays" in str(error):
            raise UserError(
                f"coreset={file}: holds pickled objects, which are never loaded"
            ) from error
        raise UserError(f"coreset={file}: unreadable ({error})") from error
    except (OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"coreset={file}: not a readable npz file ({error})") from error


def scalar(file: Path, arrays: dict[str, np.ndarray], key: str, default: Any) -> Any:
    """A single finite number stored under key."""
    if key not in arrays:
        return default
    value = np.asarray(arrays[key])
    if value.size != 1 or not np.issubdtype(value.dtype, np.number) or not np.isfinite(value).all():
        raise UserError(f"coreset={file}: {key} must be one finite number, found {value!r:.60}")
    return float(value.reshape(()))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
