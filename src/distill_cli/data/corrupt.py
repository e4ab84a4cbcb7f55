"""Training splits made worse on purpose: redundant, long-tailed or mislabelled. Imports no jax.

    redundant     of corrupt_distinct images that stay, corrupt_copied are repeated corrupt_copies
                  times more with a little noise: the case importance sampling is for
    long_tail     class c keeps n_max * imbalance^(-c / (C - 1)) images (Cui et al. 2019)
    label_noise   a share of the labels is replaced by another class, uniformly drawn

Test and official validation splits stay as they are. Validation images that are drawn from the
training split come from the corrupted one: nobody who has such data has the clean split.
"""

from collections.abc import Callable

import numpy as np

from distill_cli.data.config import DatasetConfig
from distill_cli.data.raw import spread
from distill_cli.errors import UserError, choice_error

Corruption = Callable[[DatasetConfig, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def corrupt(
    config: DatasetConfig, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) of the training split as config.corrupt says; the same arrays for none.

    A function of the configuration and the split alone. Raises UserError for values that the split
    does not allow.
    """
    if config.corrupt not in CORRUPTIONS:
        raise choice_error("dataset.corrupt", config.corrupt, CORRUPTIONS)
    return CORRUPTIONS[config.corrupt](config, images, labels)


def _none(
    config: DatasetConfig, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    del config
    return images, labels


def _redundant(
    config: DatasetConfig, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct images first, then the copies, each pixel with Gaussian noise.

    The noise is corrupt_noise times the brightest value there is; uint8 images are rounded.
    """
    rng = np.random.default_rng(config.corrupt_seed)
    distinct, copied = config.corrupt_distinct, config.corrupt_copied
    classes = len(np.unique(labels))
    if not classes <= distinct <= len(labels):
        raise UserError(
            f"dataset.corrupt_distinct={distinct}: must lie between {classes}, one of each class, "
            f"and {len(labels)}, the training images"
        )
    if not 1 <= copied <= distinct:
        raise UserError(
            f"dataset.corrupt_copied={copied}: must be at least 1 and at most "
            f"dataset.corrupt_distinct={distinct}"
        )
    shuffled = rng.permutation(len(labels))
    if config.corrupt_copies < 0 or not config.corrupt_noise >= 0:
        raise UserError("dataset.corrupt_copies and dataset.corrupt_noise: must be at least 0")
    kept = shuffled[spread(labels[shuffled], distinct)]
    again = np.repeat(rng.choice(kept, copied, replace=False), config.corrupt_copies)
    top = float(images.max())
    copies = np.empty((len(again), *images.shape[1:]), images.dtype)
    for place, row in enumerate(again):  # one at a time: float64 noise for all would not fit
        noisy = images[row] + rng.normal(0, config.corrupt_noise * top, images.shape[1:])
        noisy = np.clip(noisy, 0, top)
        copies[place] = np.rint(noisy) if images.dtype == np.uint8 else noisy
    return np.concatenate([images[kept], copies]), np.concatenate([labels[kept], labels[again]])


def _long_tail(
    config: DatasetConfig, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows ascending; n_max is the size of the largest class."""
    if not config.corrupt_imbalance >= 1:
        raise UserError(f"dataset.corrupt_imbalance={config.corrupt_imbalance}: must be at least 1")
    rng = np.random.default_rng(config.corrupt_seed)
    classes = int(labels.max()) + 1
    largest = np.bincount(labels).max()
    kept = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        share = config.corrupt_imbalance ** (-label / max(classes - 1, 1))
        count = min(len(members), max(1, round(largest * share)))
        kept.append(rng.choice(members, count, replace=False))
    rows = np.sort(np.concatenate(kept))
    return images[rows], labels[rows]


def _label_noise(
    config: DatasetConfig, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """round(share * n) labels, each replaced by one of the other classes."""
    if not 0 <= config.corrupt_share <= 1:
        raise UserError(f"dataset.corrupt_share={config.corrupt_share}: must lie in [0, 1]")
    rng = np.random.default_rng(config.corrupt_seed)
    classes = int(labels.max()) + 1
    wrong = rng.choice(len(labels), round(config.corrupt_share * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return images, noisy


CORRUPTIONS: dict[str, Corruption] = {
    "none": _none,
    "redundant": _redundant,
    "long_tail": _long_tail,
    "label_noise": _label_noise,
}
