"""format kip: coresets released with KIP, whose file names say how they were made.

    kip/<data>/<arch>_ssize<n>_{zca,nozca}_{l,nol}_{aug,noaug}_ckpt<k>.npz
    ls/<data>/<arch>_ssize<n>_{zca,nozca}.npz              (label solve: real images)

Keys images (n, h, w, c) in preprocessed space and labels (n, class), centred or learned. zca:
standardised, then per image mean 0 and norm 1, then whitened with 0.1 trace(Cov)/d; nozca:
standardised only. They must not be preprocessed again. (Nguyen et al. 2021, released notebooks.)
"""

import re
from pathlib import Path
from typing import NamedTuple

from distill_cli.core.coreset_io import CoresetFile, checked, read_arrays, require
from distill_cli.errors import UserError

NAME = re.compile(
    r"(?P<arch>[A-Za-z0-9]+)_ssize(?P<size>\d+)_(?P<zca>zca|nozca)"
    r"(?:_(?P<labels>l|nol)_(?P<aug>aug|noaug)_ckpt(?P<checkpoint>\d+))?\.npz"
)


class Name(NamedTuple):
    """What a file name says. The last three are None for label-solve files."""

    architecture: str
    size: int
    zca: bool
    learned: bool | None
    augmented: bool | None
    checkpoint: int | None


def parse_name(path: Path) -> Name | None:
    """The parts of a KIP file name; None where it is none."""
    found = NAME.fullmatch(path.name)
    if found is None:
        return None
    solved = found["labels"] is None
    return Name(
        found["arch"], int(found["size"]), found["zca"] == "zca",
        None if solved else found["labels"] == "l", None if solved else found["aug"] == "aug",
        None if solved else int(found["checkpoint"]),
    )  # fmt: skip


def read(path: Path, index: int = 0) -> CoresetFile:
    """UserError where the name does not follow the pattern or contradicts the content."""
    del index
    name = parse_name(path)
    if name is None or not path.is_file():
        raise UserError(
            f"coreset={path}: format kip reads the preprocessing from the file name, "
            "<arch>_ssize<n>_<zca or nozca>_<l or nol>_<aug or noaug>_ckpt<k>.npz; keep the name, "
            "or use coreset.format=npz and give preprocess= yourself"
        )
    arrays = read_arrays(path)
    require(path, "kip", arrays, ("images", "labels"))
    if len(arrays["images"]) != name.size:
        raise UserError(
            f"coreset={path}: the name says {name.size} images, the file has "
            f"{len(arrays['images'])}"
        )
    parts = ["zca" if name.zca else "no zca"]
    if name.learned is not None:
        parts += ["labels learned" if name.learned else "labels fixed"]
        parts += ["augmented" if name.augmented else "not augmented"]
        parts += [f"checkpoint {name.checkpoint}"]
    note = f"KIP {name.architecture}, {', '.join(parts)}"
    return checked(path, "kip", arrays["images"], arrays["labels"], note=note, origin="KIP")
