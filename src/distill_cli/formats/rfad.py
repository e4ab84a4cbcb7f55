"""format rfad: coresets released by RFAD's authors.

An npz with images (n, c, h, w), labels (n, class), k (log of the Platt scale) and jit (the ridge,
relative to trace(K_ss)/n). Images are in RFAD's preprocessed space. (Program yolky/RFAD.)
"""

from pathlib import Path

from distill_cli.core.coreset_io import CoresetFile, checked, read_arrays, require, scalar
from distill_cli.formats.npz import one_file


def read(path: Path, index: int = 0) -> CoresetFile:
    """k and jit may be missing: 0 and unknown."""
    del index
    file = one_file(path, "rfad", "best.npz")
    arrays = read_arrays(file)
    require(file, "rfad", arrays, ("images", "labels"))
    images = arrays["images"]
    return checked(
        file, "rfad", images.transpose(0, 2, 3, 1) if images.ndim == 4 else images,
        arrays["labels"], log_temperature=scalar(file, arrays, "k", 0.0),
        ridge=scalar(file, arrays, "jit", None), origin="RFAD",
    )  # fmt: skip
