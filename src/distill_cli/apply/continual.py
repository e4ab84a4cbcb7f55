"""Class-incremental learning from a memory of a few images per class (GDumb's rule).

Protocol of DM (Zhao & Bilen, WACV 2023) and FRePo (Zhou et al. 2022): the classes come in steps, in
the order of NumPy's legacy generator; at each step only the data of the new classes are there, and
`memory` images of each are kept; a model is made from scratch on the whole memory and tested on all
classes seen so far, its outputs for classes that were not seen left in.
"""

import numpy as np
from jaxtyping import Float, Int

from distill_cli.core.types import Coreset
from distill_cli.errors import UserError


def class_order(seed: int, classes: int) -> list[int]:
    """The published order of a seed: a permutation by numpy.random.RandomState(seed)."""
    return np.random.RandomState(seed).permutation(classes).tolist()


def class_steps(order: list[int], steps: int) -> list[list[int]]:
    """The order cut into steps of equal size, each ascending. UserError where that is impossible,
    or where a step would have a single class."""
    size, rest = divmod(len(order), steps)
    if rest or size < 2:
        raise UserError(
            f"apply.increments={steps}: {len(order)} classes cannot be cut into so many equal "
            "steps of at least two classes"
        )
    return [sorted(order[at : at + size]) for at in range(0, len(order), size)]


def widened(labels: Float[np.ndarray, "n k"], own: list[int], classes: int) -> np.ndarray:
    """Labels of `own` classes (one-hot minus 1/k, or learned) as labels of all classes, centred.

    Column j goes to class own[j] with 1/k - 1/classes added; classes without a column get
    -1/classes. Fixed labels become one-hot minus 1/classes exactly.
    """
    wide = np.full((len(labels), classes), -1 / classes)
    wide[:, own] = np.asarray(labels, np.float64) + 1 / len(own) - 1 / classes
    return wide.astype(np.float32)


def union(memories: list[Coreset]) -> Coreset:
    """All memories as one set. The temperature means nothing any more."""
    return Coreset(
        np.concatenate([np.asarray(m.images) for m in memories]),
        np.concatenate([np.asarray(m.labels) for m in memories]),
        np.zeros((), np.float64),
    )


def group_accuracies(
    predicted: Int[np.ndarray, " m"], labels: Int[np.ndarray, " m"], steps: list[list[int]]
) -> list[float]:
    """Accuracy on the test images of each step's classes."""
    return [float(np.mean((predicted == labels)[np.isin(labels, group)])) for group in steps]


def forgetting(matrix: list[list[float]]) -> float | None:
    """Mean over the steps before the last of (best accuracy ever - accuracy at the end).

    matrix[t][g]: accuracy at step t on the classes of step g <= t (Chaudhry et al. 2018). None for
    one step.
    """
    last = len(matrix) - 1
    if last < 1:
        return None
    lost = [max(matrix[t][g] for t in range(g, last)) - matrix[last][g] for g in range(last)]
    return float(np.mean(lost))
