"""task export: a coreset in a format for use elsewhere, with the exact transform beside it.

<out>/coreset.npz, coreset.safetensors, coreset.pt, or <label>_<class>/<row>.png and labels.npz
<out>/preprocess.npz   the transform, where it is known: pixels to the coreset's space and back
<out>/manifest.json    shapes, layout, hashes, where it comes from
<out>/README.md        how to load it
"""

import importlib
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, load_coreset, record, save_coreset, sha256
from distill_cli.core.files import check_out, read_json, write_bytes, write_json
from distill_cli.core.lock import holding
from distill_cli.data.preprocess import Preprocess
from distill_cli.data.standalone_load import HALF_LEVEL, to_pixels
from distill_cli.errors import StorageError, UserError
from distill_cli.formats import image_folder
from distill_cli.formats.detect import declared_preprocess
from distill_cli.formats.readme import readme
from distill_cli.train.signals import BEFORE_END
from distill_cli.typed import out_folder
from distill_cli.version import __version__

WHAT = "distill-export"
LAYOUTS = {"npz": "NHWC", "safetensors": "NHWC", "torch": "NCHW", "images": "PNG"}


@dataclass(frozen=True)
class Source:
    """Which coreset: a path, its format, and the experiment of a file with several."""

    path: str | None = None
    format: str = "auto"
    index: int = 0


@dataclass(frozen=True)
class Config:
    """See configs/export.yaml."""

    coreset: Source = field(default_factory=Source)
    format: Literal["npz", "safetensors", "torch", "images"] = "npz"
    out: str | None = None
    overwrite: bool = False
    transform: str | None = None


def run(config: Config) -> dict[str, Any]:
    """Export; returns what manifest.json holds, and the folder.

    Raises UserError for wrong input and for a target that exists; StorageError where nothing can be
    written. The target appears whole or not at all.
    """
    if not config.coreset.path:
        raise UserError("coreset: missing; give coreset=<run folder or coreset file>")
    found = load_coreset(config.coreset.path, config.coreset.format, config.coreset.index)
    beside = found.folder / f"export-{config.format}"
    out = beside if config.out is None else out_folder(config.out)
    check_out(out)
    taken = f"out={out}: another distill-export is writing it"
    with holding(out.with_name(f".{out.name}.lock"), taken, keep=False):
        check_target(out, config.overwrite)
        return write(config, found, out)


def write(config: Config, found: CoresetFile, out: Path) -> dict[str, Any]:
    """Write the export that a checked configuration asks for."""
    result = record(found.path)
    transform = transform_file(found, config.transform)
    count = found.coreset.labels.shape[1]
    names = found.class_names or tuple(map(str, result.get("class_names") or range(count)))
    if len(names) != count:
        raise UserError(f"coreset={found.path}: {count} classes but {len(names)} class names")
    manifest: dict[str, Any] = {
        "what": WHAT, "schema": 1, "version": __version__, "format": config.format,
        "layout": LAYOUTS[config.format], "images": list(found.coreset.images.shape),
        "space": "pixels" if config.format == "images" else "preprocessed",
        "class_names": list(names), "ridge": found.ridge,
        "log_temperature": float(found.coreset.log_temperature),
        "method": result.get("method"), "dataset": result.get("dataset"),
        "preprocess": result.get("preprocess"),
        "command": result.get("command") or declared_command(found),
        "source": {
            "path": str(found.path), "format": found.format, "note": found.note,
            "sha256": sha256(found.path),
        },
    }  # fmt: skip
    with whole_folder(out) as folder:
        files, clipped = write_format(config.format, folder, found, names, transform)
        if transform is not None:
            write_bytes(folder / "preprocess.npz", transform.read_bytes())
            files.append("preprocess.npz")
        manifest["clipped"] = clipped
        manifest["warnings"] = warnings(clipped)
        write_bytes(folder / "README.md", readme(manifest, transform is not None).encode())
        manifest["files"] = {name: sha256(folder / name) for name in (*files, "README.md")}
        write_json(folder / "manifest.json", manifest)
    return manifest | {"folder": str(out)}


def warnings(clipped: dict[str, Any] | None) -> list[str]:
    """What pictures do not show."""
    lines = []
    if clipped and clipped["values"]:
        lines.append(
            f"{clipped['values']} of {clipped['of']} pixel values "
            f"({clipped['values'] / clipped['of']:.1%}) lie outside [0, 1] and were clipped; train "
            "on npz, safetensors or torch, which keep them"
        )
    if clipped and clipped["rescaled"]:
        lines.append(
            "each picture was scaled to fill [0, 1]: the per-image step of the preprocessing keeps "
            "neither brightness nor contrast"
        )
    return lines


def check_target(out: Path, overwrite: bool) -> None:
    """UserError where something is in the way that must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    earlier = read_json(out / "manifest.json") if out.is_dir() else None
    if not (isinstance(earlier, dict) and earlier.get("what") == WHAT):
        raise UserError(f"out={out}: exists and is no earlier export; choose another folder")
    if not overwrite:
        raise UserError(f"out={out}: exists; overwrite=true replaces it")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, which takes its name, and its place, at the end."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    former = out.with_name(f".{out.name}.{os.getpid()}.old")

    def tidy(code: int = 0, line: str = "") -> bool:
        """See signals.BEFORE_END."""
        if former.exists() and not out.exists():
            os.replace(former, out)
        for left in (temporary, former):
            shutil.rmtree(left, ignore_errors=True)
        return False

    BEFORE_END.append(tidy)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            os.replace(out, former)
        os.replace(temporary, out)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        BEFORE_END.remove(tidy)
        tidy()


def declared_command(found: CoresetFile) -> str | None:
    """What a foreign format says about its preprocessing, as a command."""
    overrides = declared_preprocess(found.path, found.format, None)
    return shlex.join(["distill-evaluate", *overrides]) if overrides else None


def transform_file(found: CoresetFile, given: str | None) -> Path | None:
    """The preprocess.npz to go along: the given one, else the one beside the coreset, else None."""
    file = found.transform if given is None else Path(given).expanduser()
    if file is not None:
        Preprocess.load(file)  # UserError unless it is one
    return file


def write_format(
    format: str, folder: Path, found: CoresetFile, names: tuple[str, ...], transform: Path | None
) -> tuple[list[str], dict[str, Any] | None]:
    """Write the coreset; (file names, what was clipped or None)."""
    if format == "images":
        return write_images(folder, found, names, transform)
    found = preprocessed(found, transform)
    if format == "npz":
        save_coreset(folder / "coreset.npz", found.coreset, names, found.ridge, found.ridge_weights)
        files = ["coreset.npz"]
    else:
        module = importlib.import_module(f"distill_cli.formats.{format}")
        files = module.write(folder, found, names)
    if transform is not None:
        script = resources.files("distill_cli.data").joinpath("standalone_load.py")
        write_bytes(folder / "load.py", script.read_bytes())
        files.append("load.py")
    return files, None


def preprocessed(found: CoresetFile, transform: Path | None) -> CoresetFile:
    """The coreset in preprocessed space, where it was read from pictures."""
    if not found.pixels:
        return found
    if transform is None:
        raise UserError(
            f"coreset={found.path}: pictures have to be preprocessed first; give "
            "transform=<preprocess.npz of the run>"
        )
    fitted = Preprocess.load(transform)
    images = np.asarray(fitted.transform(found.coreset.images * np.float32(fitted.pixel_max)))
    return replace(found, coreset=found.coreset._replace(images=images), pixels=False)


def write_images(
    folder: Path, found: CoresetFile, names: tuple[str, ...], transform: Path | None
) -> tuple[list[str], dict[str, Any]]:
    """8-bit pictures; values outside [0, 1] are clipped and counted."""
    pixels = np.asarray(found.coreset.images)
    if pixels.shape[-1] not in (1, 3):
        raise UserError(f"format=images: {pixels.shape[-1]} channels; 1 or 3 can be shown")
    rescaled = False
    if not found.pixels:
        if transform is None:
            raise UserError(
                f"coreset={found.path}: no preprocess.npz beside it, so its images cannot become "
                "pixels again; give transform=<preprocess.npz of the same preprocessing>"
            )
        with np.load(transform, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        pixels, rescaled = to_pixels(pixels, arrays), bool(arrays.get("per_image", False))
    outside = (pixels < -HALF_LEVEL) | (pixels > 1 + HALF_LEVEL)
    clipped = {"values": int(outside.sum()), "of": int(outside.size), "rescaled": rescaled}
    levels = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    return image_folder.write(folder, found, names, levels), clipped
