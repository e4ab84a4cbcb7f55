"""What a protocol's predictions say of each class: recalls, their mean, and the confusion matrix.

Every protocol hands over the predicted classes that its accuracy counts; the rest is done here.

    confusion[a, b]    test images of class a that were taken for class b, summed over the networks
    accuracy of a      confusion[a, a] / sum_b confusion[a, b]          (the recall of class a)
    balanced accuracy  mean of these over the classes that have test images
                       (Brodersen, Ong, Stephan & Buhmann, ICPR 2010)

Of one network, accuracy is the mean of the class accuracies weighted by their test images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

MATRIX_CLASSES = 20  # up to here the matrix is recorded whole
LARGEST = 500  # of more classes, so many of its entries off the diagonal


def share_correct(guesses: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Accuracy in [0, 1]: the number of right guesses over that of images, in float64."""
    return int(np.sum(guesses == np.asarray(labels))) / len(labels)


def confusion_counts(
    guesses: Sequence[Int[np.ndarray, " n"]], labels: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "class class"]:
    """The matrix above, int64, summed over `guesses`: one array of predicted classes per network.

    It has a row for each of `classes`, and for labels beyond them.
    """
    classes = max(classes, int(np.max(labels)) + 1)
    found = np.zeros((classes, classes), np.int64)
    for guess in guesses:
        np.add.at(found, (np.asarray(labels), np.asarray(guess)), 1)
    return found


def class_fields(
    confusion: Int[np.ndarray, "class class"] | None, networks: int, names: Sequence[str] = ()
) -> dict[str, Any]:
    """`balanced_accuracy`, `per_class` and `confusion` as they stand in result.json; nothing
    without a matrix.

    networks: how many the matrix is summed over. per_class: of each class in the order of the
    labels' columns its name (its number where it has none), its test `images` and its `accuracy`,
    None without images. confusion: see `recorded`.
    """
    if confusion is None:
        return {}
    tested, right = confusion.sum(1), confusion.diagonal()
    rows = [
        {
            "class": names[at] if at < len(names) else str(at),
            "images": int(count) // networks,
            "accuracy": int(right[at]) / int(count) if count else None,
        }
        for at, count in enumerate(tested)
    ]
    recalls = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    return {
        "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
        "per_class": rows,
        "confusion": recorded(confusion),
    }


def recorded(confusion: Int[np.ndarray, "class class"]) -> dict[str, Any]:
    """{"matrix": rows} of up to MATRIX_CLASSES classes, else {"largest": [[true, predicted,
    count], ...]}: the LARGEST entries off the diagonal that are not 0, the largest first, equal
    ones in the order of the matrix. (Diagonal and sums of rows follow from per_class.)"""
    if len(confusion) <= MATRIX_CLASSES:
        return {"matrix": confusion.tolist()}
    off = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:LARGEST]
    at = [divmod(int(place), len(off)) for place in order]
    return {"largest": [[a, b, int(off[a, b])] for a, b in at if off[a, b]]}
