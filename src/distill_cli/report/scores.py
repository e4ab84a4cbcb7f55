"""The real images that an initialiser scored highest and lowest, class by class, with their scores.

Reads coreset/initial_scores.npz, which a run writes where its initialiser gives scores: arrays of
equal length images (m, h, w, c) in [0, 1], scores, rows, labels, highest, taken (tasks/measure.py).
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill_cli.report import words
from distill_cli.report.heat import data_uri
from distill_cli.report.images import png_bytes, to_levels
from distill_cli.report.run_result import RunResult
from distill_cli.report.sheets import spread
from distill_cli.report.templating import Markup, macro

CLASSES = 20  # of more, evenly spaced ones are shown
MEANING = {
    "krr_sensitivity": "the largest share an image can have in the regression's loss; drawn with "
    "probability proportional to it",
    "ridge_leverage": "how little the other images say about an image; drawn with probability "
    "proportional to it",
    "kmeans_sensitivity": "a bound of an image's share in the k-means cost; drawn with probability "
    "proportional to it",
    "one_per_cluster": "the KRR sensitivity; inside a cluster drawn with probability proportional "
    "to it",
    "forgetting": "how often a network forgot the image while it learned; the highest are taken",
}


def scores_part(folder: str | Path, result: RunResult, names: Sequence[str]) -> Markup:
    """HTML of the pictures; "" where the run has no scores, or its file cannot be read."""
    arrays = read_scores(Path(folder))
    if arrays is None:
        return Markup("")
    init = result.init
    meaning = f" The score of init={init} is {MEANING[init]}." if init in MEANING else ""
    labels = arrays["labels"]
    present = [c for c in range(len(names)) if (labels == c).any()]
    shown = [present[i] for i in spread(len(present), CLASSES)]
    some = "" if len(shown) == len(present) else f" {len(shown)} of {len(present)} classes."
    classes = [(names[c].replace("_", " "), strips(arrays, c)) for c in shown]
    return macro("scores.html", "scores")(classes, meaning, some)


def read_scores(folder: Path) -> dict[str, np.ndarray] | None:
    """The arrays, None where they are missing, damaged, of unequal length, or none at all."""
    file = folder / "coreset" / "initial_scores.npz"
    keys = ("images", "scores", "labels", "highest", "taken")
    try:
        with np.load(file, allow_pickle=False) as data:
            arrays = {key: data[key] for key in keys}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    lengths = {len(array) for array in arrays.values()}
    usable = len(lengths) == 1 and lengths != {0} and arrays["images"].ndim == 4
    return arrays if usable else None


class Scored(NamedTuple):
    """A real image: its address, its score in words, whether it is in the initial set."""

    address: str
    score: str
    taken: bool


def strips(arrays: Mapping[str, np.ndarray], label: int) -> list[tuple[str, list[Scored]]]:
    """Images of a class with the highest and with the lowest scores."""
    own = arrays["labels"] == label
    return [
        (
            title,
            [scored(arrays, int(row)) for row in np.flatnonzero(own & (arrays["highest"] == high))],
        )
        for high, title in ((True, "highest"), (False, "lowest"))
    ]


def scored(arrays: Mapping[str, np.ndarray], row: int) -> Scored:
    """One image of the file."""
    picture = to_levels(arrays["images"][row : row + 1])[0]
    score = words.decimal(float(arrays["scores"][row]), 3)
    return Scored(data_uri(png_bytes(picture)), score, bool(arrays["taken"][row]))
