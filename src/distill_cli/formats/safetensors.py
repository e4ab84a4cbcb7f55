"""format safetensors: coreset.safetensors, as distill-export writes it.

Tensors images (n, h, w, c) float32, labels (n, class) float32, hard_labels (n,) int64; the metadata
holds class_names, log_temperature and ridge as JSON. Needs the package safetensors.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, checked, require
from distill_cli.core.files import write_bytes
from distill_cli.errors import UserError
from distill_cli.formats.npz import one_file

FILE = "coreset.safetensors"


def package() -> ModuleType:
    """safetensors.numpy, or a UserError that says how to get it."""
    try:
        import safetensors.numpy  # type: ignore[import-not-found]
    except ImportError:
        raise UserError(
            "format=safetensors: the package safetensors is not installed; "
            "pip install 'distill-cli[safetensors]'"
        ) from None
    return safetensors.numpy


def read(path: Path, index: int = 0) -> CoresetFile:
    """UserError where the file is damaged or holds other tensors."""
    del index
    file = one_file(path, "safetensors", FILE)
    try:
        content = file.read_bytes()
        arrays: dict[str, np.ndarray] = package().load(content)
        metadata = header(content)
    except UserError:
        raise
    except Exception as error:  # the package raises kinds of its own
        raise UserError(f"coreset={file}: not a safetensors file ({error})") from None
    require(file, "safetensors", arrays, ("images", "labels"))
    return checked(
        file, "safetensors", arrays["images"], arrays["labels"],
        class_names=metadata.get("class_names"), ridge=metadata.get("ridge"),
        log_temperature=metadata.get("log_temperature") or 0.0,
        ridge_weights=arrays.get("ridge_weights"),
    )  # fmt: skip


def header(content: bytes) -> dict[str, Any]:
    """The metadata: eight bytes of length, then JSON, by the format's definition."""
    size = int.from_bytes(content[:8], "little")
    stored = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
    return {key: json.loads(stored[key]) for key in KEYS if key in stored}


KEYS = ("class_names", "log_temperature", "ridge")


def write(folder: Path, found: CoresetFile, class_names: tuple[str, ...]) -> list[str]:
    """Write coreset.safetensors; returns the file names."""
    coreset = found.coreset
    arrays = {
        "images": np.ascontiguousarray(coreset.images, np.float32),
        "labels": np.ascontiguousarray(coreset.labels, np.float32),
        "hard_labels": np.asarray(coreset.labels).argmax(1).astype(np.int64),
    }
    if found.ridge_weights is not None:
        arrays["ridge_weights"] = found.ridge_weights
    values = (list(class_names), float(coreset.log_temperature), found.ridge)
    metadata = {key: json.dumps(value) for key, value in zip(KEYS, values, strict=True)}
    write_bytes(folder / FILE, package().save(arrays, metadata))
    return [FILE]
