"""The real images that an initialiser scored highest and lowest, class by class, with their scores.

Reads coreset/initial_scores.npz, which a run writes where its initialiser gives scores: arrays of
equal length images (m, h, w, c) in [0, 1], scores, rows, labels, highest, taken (tasks/measure.py).
"""

import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from distill_cli.report import words
from distill_cli.report.heat import data_uri
from distill_cli.report.images import png_bytes, to_levels
from distill_cli.report.run_result import RunResult
from distill_cli.report.sheets import spread

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


def scores_part(folder: str | Path, result: RunResult, names: Sequence[str]) -> str:
    """HTML of the pictures; "" where the run has no scores, or its file cannot be read."""
    arrays = read_scores(Path(folder))
    if arrays is None:
        return ""
    init = result.init
    meaning = f" The score of init={init} is {MEANING[init]}." if init in MEANING else ""
    labels = arrays["labels"]
    present = [c for c in range(len(names)) if (labels == c).any()]
    shown = [present[i] for i in spread(len(present), CLASSES)]
    parts = [_class(arrays, c, names[c]) for c in shown]
    some = "" if len(shown) == len(present) else f" {len(shown)} of {len(present)} classes."
    return (
        f'<div class="scored">{"".join(parts)}</div><p class="note">Real images of the training '
        f"set with the highest and the lowest scores of their class.{escape(meaning)} Framed "
        f"images are in the initial set.{some}</p>"
    )


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


def _class(arrays: Mapping[str, np.ndarray], label: int, name: str) -> str:
    rows = np.flatnonzero(arrays["labels"] == label)
    name = escape(name.replace("_", " "))
    strips = "".join(
        _strip(arrays, rows[arrays["highest"][rows] == high], f"{name}, {title}")
        for high, title in ((True, "highest"), (False, "lowest"))
    )
    return f'<div class="card"><h3 class="sub">{name}</h3>{strips}</div>'


def _strip(arrays: Mapping[str, np.ndarray], rows: np.ndarray, title: str) -> str:
    levels = to_levels(arrays["images"][rows])
    tiles = "".join(
        f'<figure class="{"taken" if arrays["taken"][row] else "left"}">'
        f'<img src="{data_uri(png_bytes(picture))}" alt="{title} score {k + 1}">'
        f"<figcaption>{words.decimal(float(arrays['scores'][row]), 3)}</figcaption></figure>"
        for k, (row, picture) in enumerate(zip(rows, levels, strict=True))
    )
    return f'<p class="note">{title.rpartition(", ")[2]}</p><div class="strip">{tiles}</div>'
