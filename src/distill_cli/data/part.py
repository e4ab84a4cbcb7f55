"""A part of a dataset: some rows of the training split, some of the classes. Imports no jax.

rows      a chunk of the training split, e.g. the members of a membership-inference attack
classes   a step of class-incremental learning: labels keep the numbers and the width of all
          classes, so that coresets of several steps can be put together; with relabel they
          become 0, 1, ... and the part is a dataset of its own
"""

import numpy as np

from distill_cli.data.config import DatasetConfig
from distill_cli.data.raw import RawDataset, RawSplit, rows
from distill_cli.errors import UserError


def keep_part(config: DatasetConfig, raw: RawDataset) -> RawDataset:
    """The dataset reduced to config.rows and config.classes; unchanged where both are None.

    Raises UserError for what the dataset does not have, and where a class keeps no training image.
    """
    if config.rows is not None:
        raw = raw._replace(train=_chunk(config.rows, raw.train))
    if config.classes is not None:
        raw = _some_classes(config.classes, config.relabel, raw)
    elif config.relabel:
        raise UserError("dataset.relabel=true: needs dataset.classes=[...]")
    if config.rows is not None or config.classes is not None:
        expected = len(raw.class_names) if config.classes is None else len(config.classes)
        if (found := len(np.unique(raw.train.labels))) < expected:
            given = "rows" if config.rows is not None else "classes"
            raise UserError(
                f"dataset.{given}={list(getattr(config, given))}: training images of only {found} "
                f"of {expected} classes are left; take more of the training split"
            )
    return raw


def _chunk(part: tuple[int, ...], split: RawSplit) -> RawSplit:
    count = len(split.labels)
    if len(part) != 2 or not 0 <= part[0] < part[1] <= count:
        raise UserError(
            f"dataset.rows={list(part)}: must be [start, stop] with 0 <= start < stop <= {count}, "
            "the images of the training split"
        )
    return rows(split, np.arange(part[0], part[1]))


def _some_classes(wanted: tuple[int, ...], relabel: bool, raw: RawDataset) -> RawDataset:
    count = len(raw.class_names)
    if len(set(wanted)) != len(wanted) or not wanted or not all(0 <= c < count for c in wanted):
        raise UserError(
            f"dataset.classes={list(wanted)}: must be different numbers from 0 to {count - 1}"
        )
    if relabel and len(wanted) < 2:
        raise UserError(f"dataset.classes={list(wanted)}: with relabel at least 2 classes")
    number = np.full(count, -1, np.int32)
    number[list(wanted)] = np.arange(len(wanted)) if relabel else wanted

    def keep(split: RawSplit | None) -> RawSplit | None:
        if split is None:
            return None
        kept = rows(split, np.flatnonzero(np.isin(split.labels, wanted)))
        return kept._replace(labels=number[kept.labels])

    train = keep(raw.train)
    assert train is not None
    names = tuple(raw.class_names[c] for c in wanted) if relabel else raw.class_names
    return raw._replace(train=train, test=keep(raw.test), valid=keep(raw.valid), class_names=names)
