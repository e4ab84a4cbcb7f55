"""Validation images: which rows of the training split choose the best coreset."""

import numpy as np

from distill_cli.errors import UserError

HELD_OUT_SHARE = 0.2  # of a class, at most, where the size of a disjoint split is not given


def validation_indices(
    labels: np.ndarray,
    classes: int,
    per_class: int | None = None,
    seed: int = 0,
    disjoint: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training split to train on and to validate on: (train_rows, valid_rows).

    disjoint False, as in the RFAD code: per_class rows of every class, in class order, uniformly
    with replacement from numpy's RandomState(seed); train_rows are all rows, so that validation
    images are training images too. disjoint True: drawn without replacement (class order again) and
    taken out of train_rows (ascending).

    per_class None is RFAD's rule, 500 with 10 classes and 100 otherwise, but no more than the class
    holds, and with disjoint no more than a fifth of it (at least 1).
    Raises UserError where per_class is not positive, more than a class holds, or (disjoint) all of
    it.
    """
    if per_class is not None and per_class < 1:
        raise UserError(
            f"validation.per_class={per_class}: must be at least 1, or null for the rule"
        )
    rng = np.random.RandomState(seed)
    chosen: list[np.ndarray] = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        count = per_class or _rule(classes, len(members), disjoint)
        if not len(members) or count > len(members) - disjoint:
            raise UserError(
                f"validation.per_class={count}: class {label} has only {len(members)} images"
            )
        chosen.append(rng.choice(members, size=count, replace=not disjoint))
    valid = np.concatenate(chosen)
    train = np.arange(len(labels))
    if disjoint:
        train = np.setdiff1d(train, valid)
    return train, valid


def official_validation_indices(count: int, seed: int = 0, size: int = 1000) -> np.ndarray:
    """Rows of an official validation split of `count` images: one shuffled batch (RFAD, CelebA)."""
    return np.random.RandomState(seed).permutation(count)[:size]


def _rule(classes: int, available: int, disjoint: bool) -> int:
    most = max(1, int(HELD_OUT_SHARE * available)) if disjoint else available
    return min(500 if classes == 10 else 100, most)
