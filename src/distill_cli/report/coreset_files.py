"""The coreset/ folder of a run as the reports see it, and its preprocessing in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill_cli.data import standalone_load
from distill_cli.report.images import View, view

MOST_SHOWN = 10_000  # images of one picture; of larger sets the first of each class,
SHOWN_OF_LARGE = 500  # so many in all


class CoresetFiles(NamedTuple):
    """Coreset, transform, and both ways to look at it. initial is None where it was not kept.

    Of a coreset with more than MOST_SHOWN images it holds the first of each class, and `total`
    says how many there are.
    """

    coreset: standalone_load.Coreset
    transform: dict[str, Any]
    distilled: View
    initial: View | None
    initial_labels: np.ndarray | None
    total: int


def read_coreset(folder: str | Path) -> CoresetFiles | None:
    """`folder`/coreset of a run, None where it has no coreset.npz. A transform left out is none."""
    place = Path(folder) / "coreset"
    if not (place / "coreset.npz").is_file():
        return None
    coreset, total = first_of_each_class(standalone_load.load(place))
    known = (place / "preprocess.npz").is_file()
    transform = standalone_load.read_transform(place) if known else {}
    initial = labels = None
    if (place / "initial.npz").is_file():
        with np.load(place / "initial.npz", allow_pickle=False) as data:
            initial = view(data["images"], transform)
            labels = data["labels"] if "labels" in data.files else coreset.labels
    return CoresetFiles(coreset, transform, view(coreset.images, transform), initial, labels, total)


def first_of_each_class(
    coreset: standalone_load.Coreset,
) -> tuple[standalone_load.Coreset, int]:
    """(at most MOST_SHOWN images of a coreset, evenly over the classes; how many it has)."""
    total, classes = coreset.labels.shape
    if total <= MOST_SHOWN:
        return coreset, total
    hard, each = coreset.hard_labels, max(1, SHOWN_OF_LARGE // classes)
    rows = np.concatenate([np.flatnonzero(hard == label)[:each] for label in range(classes)])
    parts = {key: getattr(coreset, key)[rows] for key in ("images", "labels", "hard_labels")}
    return coreset._replace(**parts), total


def transform_steps(transform: Mapping[str, Any]) -> list[str]:
    """The preprocessing, one sentence a step, with its numbers."""
    if not transform:
        return ["None recorded: the images are used as they are."]
    steps = []
    if "pixel_max" in transform:
        steps.append(f"Pixels are divided by {float(transform['pixel_max']):g}, to [0, 1].")
    if "mean" in transform:
        std = _numbers(transform.get("std"))
        if np.ndim(transform["mean"]) == 3:
            steps.append(
                "The training set's mean image is taken away and each channel divided by its "
                f"deviation ({std})."
            )
        else:
            steps.append(
                f"Each channel is standardised with the training set's mean "
                f"({_numbers(transform['mean'])}) and deviation ({std})."
            )
    if bool(transform.get("per_image", False)):
        steps.append("Each image loses its own mean and is scaled to unit Euclidean length.")
    if "zca_vectors" in transform:
        s = np.asarray(transform["zca_values"], np.float64)
        steps.append(
            f"The flattened image ({s.size} numbers, height-width-channel order) is whitened with "
            f"the symmetric ZCA matrix W; eigenvalues of the regularised covariance run from "
            f"{s.min():.3g} to {s.max():.4g}."
        )
    return steps or ["None: pixels are used as they are."]


def transform_formula(transform: Mapping[str, Any]) -> list[str]:
    """The same as formulas, one a line."""
    lines = []
    if "mean" in transform:
        scaled = "pixel / pixel_max" if "pixel_max" in transform else "pixel"
        where = "per pixel" if np.ndim(transform["mean"]) == 3 else "per channel"
        lines.append((f"x = ({scaled} - mean) / std", where))
    elif "pixel_max" in transform:
        lines.append(("x = pixel / pixel_max", ""))
    if bool(transform.get("per_image", False)):
        lines.append(("x = (x - mean(x)) / |x - mean(x)|", "per image"))
    if "zca_vectors" in transform:
        whitening = "x = flatten(x) W,  W = U diag(s)^(-1/2) U^T"
        lines.append((whitening, "U = zca_vectors, s = zca_values"))
    return [f"{formula:46}{where}".rstrip() for formula, where in lines] or ["x = pixel"]


def _numbers(values: Any) -> str:
    return ", ".join(f"{v:.4f}" for v in np.atleast_1d(np.asarray(values, np.float64)).ravel())
