"""coreset.format=auto: which format a path holds, and which preprocessing its name or format says.

Imports no jax: the command line asks before it composes a configuration.
"""

import re
import zipfile
from pathlib import Path

from distill_cli.errors import UserError, first_of
from distill_cli.formats.dc import CONSTANTS
from distill_cli.formats.image_folder import class_folders
from distill_cli.formats.kip import parse_name
from distill_cli.formats.mtt import IMAGES

FOLDER_FILES = {
    "coreset/coreset.npz": "distill", "coreset.npz": "distill",
    "coreset.safetensors": "safetensors", "coreset.pt": "torch", "labels.npz": "image_folder",
}  # fmt: skip


def detect(path: Path) -> str:
    """The format's name. Raises UserError where nothing fits."""
    if path.is_dir():
        return detect_folder(path)
    if not path.is_file():
        raise UserError(f"coreset={path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return detect_npz(path)
    if suffix == ".safetensors":
        return "safetensors"
    if suffix in (".pt", ".pth"):
        return detect_torch(path)
    if suffix in ("", ".msgpack") or path.name.startswith("checkpoint_"):
        return "frepo"
    if suffix in (".pkl", ".pickle"):
        raise UserError(f"coreset={path}: a bare pickle, which is never loaded")
    raise UserError(f"coreset={path}: unknown kind of file; give coreset.format=")


def detect_folder(path: Path) -> str:
    """By the usual file names of each format."""
    for name, format in FOLDER_FILES.items():
        if (path / name).is_file():
            return format
    if any(IMAGES.fullmatch(item.name) for item in path.iterdir()):
        return "mtt"
    if len(class_folders(path)) > 1:
        return "image_folder"
    files = sorted(item for item in path.iterdir() if item.is_file() and looks_like_one(item))
    if files:
        names = first_of([file.name for file in reversed(files)], 1)
        raise UserError(
            f"coreset={path}: a folder of no known layout; it holds {names}: give the file, "
            f"coreset={files[-1]}"
        )
    return "distill"  # says what is missing


def looks_like_one(file: Path) -> bool:
    """Whether a file might hold a coreset, by its name."""
    return file.suffix in (".npz", ".pt", ".pth", ".safetensors", ".msgpack") or bool(
        re.fullmatch(r"checkpoint_\d+", file.name)
    )


def detect_npz(path: Path) -> str:
    """KIP by its name, the others by their keys."""
    if parse_name(path) is not None:
        return "kip"
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return "distill"  # says what is wrong with it
    if "log_temperature" in keys:
        return "distill"
    if "k" in keys:
        return "rfad"
    if {"image", "label"} <= keys:
        return "frepo"
    return "npz" if keys & {"images", "x"} and keys & {"labels", "y"} else "distill"


def detect_torch(path: Path) -> str:
    """A dict with `data` is DC's, one with `images` ours, a bare tensor MTT's."""
    from distill_cli.formats.torch_reader import read_torch

    if IMAGES.fullmatch(path.name):
        return "mtt"
    tree = read_torch(path)
    if isinstance(tree, dict) and ("data" in tree or "images" in tree):
        return "dc" if "data" in tree else "torch"
    raise UserError(
        f"coreset={path}: neither DC's dict with `data` nor one with `images`; MTT's files are "
        "called images_best.pt and labels_best.pt"
    )


def declared_preprocess(path: Path, format: str, dataset: str | None) -> list[str]:
    """Overrides for the preprocessing that a foreign coreset was made with, as far as its format or
    name says; [] where it says nothing. dataset: the name in use, where known."""
    if format == "auto":
        format = detect(path)
    if format == "kip" and (name := parse_name(path)) is not None:
        zca, per_image = ("0.1", "true") if name.zca else ("null", "false")
        return ["preprocess=kip", f"preprocess.zca={zca}", f"preprocess.per_image={per_image}"]
    if format == "dc":
        mean, std = CONSTANTS.get(dataset or "", ((), ()))
        constants = {"mean": mean, "std": std} if mean else {}
        listed = [f"preprocess.{k}=[{','.join(map(str, v))}]" for k, v in constants.items()]
        return ["preprocess=dc", *listed]
    return {"rfad": ["preprocess=rfad"], "frepo": ["preprocess=frepo"]}.get(format, [])
