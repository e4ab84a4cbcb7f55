"""Reading what an evaluation says of each class: per_class, balanced_accuracy, confusion.

The fields are evaluation/by_class.py's. An evaluation of an earlier version has none of them.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

SLACK = 1e-6  # accuracy of exact regression is a float32


class ClassResults(NamedTuple):
    """names (class,); images: test images (class,); accuracy (class,), NaN without images; shares
    (class, class): of the images of the row's class those taken for the column's; whole: whether
    every confusion is among them, or the largest only; networks: over which shares are a mean."""

    names: list[str]
    images: np.ndarray
    accuracy: np.ndarray
    shares: np.ndarray
    whole: bool
    networks: int

    @property
    def tested(self) -> np.ndarray:
        """Classes that have images."""
        return np.flatnonzero(self.images)

    @property
    def involved(self) -> np.ndarray:
        """Classes that have images or are predicted."""
        return np.flatnonzero((self.images > 0) | (self.shares > 0).any(0))

    @property
    def sizes(self) -> str:
        """The number of images of a class: "100", or "4 to 100"."""
        counts = self.images[self.tested]
        low, high = int(counts.min()), int(counts.max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    def plain(self, at: int) -> str:
        """The name of a class as text."""
        return self.names[at].replace("_", " ")

    def taken_for(self) -> list[tuple[int, int, float]]:
        """(true class, predicted class, share) off the diagonal, the largest share first."""
        rows, columns = np.nonzero(self.shares)
        found = [
            (int(a), int(b), float(self.shares[a, b]))
            for a, b in zip(rows, columns, strict=True)
            if a != b
        ]
        return sorted(found, key=lambda one: (-one[2], one[0], one[1]))


def class_results(part: Mapping[str, Any], images: object) -> ClassResults | None:
    """The fields of an evaluation, or of its baseline, on so many test images; None where it has
    none, or some that cannot have been measured."""
    rows = part.get("per_class")
    if not rows or not isinstance(part.get("confusion"), dict) or class_damage(part, images):
        return None
    counts = np.array([row["images"] for row in rows])
    accuracy = np.array([math.nan if row["accuracy"] is None else row["accuracy"] for row in rows])
    networks, confusion = part.get("n") or 1, part["confusion"]
    if "matrix" in confusion:
        found = np.array(confusion["matrix"], float)
    else:
        found = np.diag(np.rint(np.nan_to_num(accuracy) * counts * networks))
        for a, b, count in confusion["largest"]:
            found[a, b] = count
    whole = bool((found.sum(1) == counts * networks).all())
    shares = found / np.maximum(counts * networks, 1)[:, None]
    names = [str(row.get("class", at)) for at, row in enumerate(rows)]
    return ClassResults(names, counts, accuracy, shares, whole, networks)


def class_damage(part: Mapping[str, Any], images: object) -> tuple[str, str] | None:
    """(key, what is wrong with it) where a field cannot have been measured on so many test images;
    None where nothing is wrong, or the fields are not there."""
    rows = part.get("per_class")
    if rows is None:
        return None if part.get("confusion") is None else ("confusion", "is there without classes")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return "per_class", "is no list of classes"
    for at, row in enumerate(rows):
        count, accuracy = row.get("images"), row.get("accuracy")
        if not _whole(count):
            return f"per_class[{at}].images", f"is {count}, not a number of images"
        if (accuracy is not None or count) and not _share(accuracy):
            return f"per_class[{at}].accuracy", f"is {accuracy}, not in [0, 1]"
    total = sum(row["images"] for row in rows)
    if _whole(images) and total != images:
        return "per_class", f"has {total} images, not {images}"
    pairs = [(row["images"], row["accuracy"]) for row in rows if row["images"]]
    if not pairs:
        return "per_class", "has no image"
    means = {
        "accuracy": sum(count * share for count, share in pairs) / total,
        "balanced_accuracy": sum(share for _, share in pairs) / len(pairs),
    }
    for key, mean in means.items():
        if not _share(part.get(key)) or abs(part[key] - mean) > SLACK:
            return key, f"is {part.get(key)}, but its classes give {mean:.6g}"
    return _confusion_damage(part, [row["images"] for row in rows])


def _confusion_damage(part: Mapping[str, Any], counts: list[int]) -> tuple[str, str] | None:
    """The same of `confusion`, whose rows hold the images of a class once for each network."""
    found, classes = part.get("confusion"), len(counts)
    if found is None:
        return None
    wrong = ("confusion", f"is no confusion matrix of {classes} classes")
    networks = part.get("n") or 1
    if not isinstance(found, dict) or not _whole(networks):
        return wrong
    if "matrix" in found:
        rows = found["matrix"]
        if not isinstance(rows, list) or len(rows) != classes:
            return wrong
        if not all(isinstance(row, list) and len(row) == classes for row in rows):
            return wrong
        if not all(_whole(count) for row in rows for count in row):
            return wrong
        sums = [sum(row) for row in rows]
    else:
        triples = found.get("largest")
        if not isinstance(triples, list):
            return wrong
        if not all(isinstance(t, list) and len(t) == 3 and all(map(_whole, t)) for t in triples):
            return wrong
        if any(a >= classes or b >= classes or a == b for a, b, _ in triples):
            return wrong
        sums = [0] * classes
        for a, _, count in triples:
            sums[a] += count
    for at, (row, count) in enumerate(zip(sums, counts, strict=True)):
        if row > count * networks or ("matrix" in found and row != count * networks):
            return f"confusion[{at}]", f"has {row} predictions, not {count * networks}"
    return None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
