"""load_dataset: from a configuration to arrays in memory, with the checks all sources share."""

import hashlib
import importlib
from typing import TYPE_CHECKING

import numpy as np

from distill_cli.data.config import DatasetConfig
from distill_cli.data.part import keep_part
from distill_cli.data.raw import RawDataset, RawSplit, content_digest, hold_out, rows, spread
from distill_cli.errors import UserError, choice_error

if TYPE_CHECKING:  # core.types imports jax; the configuration must not
    from distill_cli.core.types import Dataset

SOURCES = ("digits", "tfds", "folder", "npz")
LABEL_MAPS = ("none", "half")


def load_dataset(config: DatasetConfig) -> "Dataset":
    """Read the dataset: source, label map, class names, test hold-out, limits, checks, fingerprint.

    Raises UserError, one line, for everything that the user can mend.
    """
    from distill_cli.core.types import Dataset, Split

    raw = prepare(config, read_raw(config))
    train, test, valid = raw.train, raw.test, raw.valid
    assert test is not None
    return Dataset(
        name=config.name,
        train=Split(train.images, train.labels),
        test=Split(test.images, test.labels),
        class_names=raw.class_names,
        pixel_max=raw.pixel_max,
        fingerprint=fingerprint(config.name, raw),
        valid=Split(valid.images, valid.labels) if valid else None,
    )


def read_raw(config: DatasetConfig) -> RawDataset:
    """What the source's module `data/<source>.py` reads."""
    if config.source not in SOURCES:
        raise choice_error("dataset.source", config.source, SOURCES)
    for key in ("image_size", "limit_train", "limit_test"):
        value = getattr(config, key)
        if value is not None and value < 1:
            raise UserError(f"dataset.{key}={value}: must be a positive number or null")
    return importlib.import_module(f"distill_cli.data.{config.source}").read(config)


def prepare(config: DatasetConfig, raw: RawDataset) -> RawDataset:
    """Label map, class names, test hold-out, part and limits, then the checks."""
    raw = _map_labels(config, raw)
    if config.class_names is not None:
        names = tuple(config.class_names)
        if len(names) != len(raw.class_names):
            raise UserError(
                f"dataset.class_names has {len(names)} names, but dataset {config.name}"
                f" has {len(raw.class_names)} classes"
            )
        raw = raw._replace(class_names=names)
    if len(raw.class_names) < 2:
        raise UserError(f"dataset {config.name}: at least 2 classes are needed, found 1")
    _check_train(config, raw)
    if raw.test is None:
        train_rows, test_rows = hold_out(raw.train.labels, config.test_fraction)
        raw = raw._replace(train=rows(raw.train, train_rows), test=rows(raw.train, test_rows))
    raw = keep_part(config, raw)
    present = len(np.unique(raw.train.labels))
    if config.limit_train is not None and config.limit_train < present:
        raise UserError(
            f"dataset.limit_train={config.limit_train}: dataset {config.name} has"
            f" {present} classes, each needs an image"
        )
    assert raw.test is not None
    raw = raw._replace(
        train=_limit(raw.train, config.limit_train), test=_limit(raw.test, config.limit_test)
    )
    _check_held_out(config, raw)
    return raw


def fingerprint(name: str, raw: RawDataset) -> str:
    """16 hex digits over name, class names, scale and the content of every split."""
    parts = [name, repr(raw.class_names), repr(raw.pixel_max)]
    for split in (raw.train, raw.test, raw.valid):
        if split is None:
            parts.append("-")
        else:
            parts.append(split.digest or content_digest(split.images, split.labels))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _map_labels(config: DatasetConfig, raw: RawDataset) -> RawDataset:
    if config.label_map not in LABEL_MAPS:
        raise choice_error("dataset.label_map", config.label_map, LABEL_MAPS)
    if config.label_map == "none":
        return raw
    names = raw.class_names
    if len(names) % 2:
        raise UserError(f"dataset.label_map=half: {len(names)} classes cannot be halved")
    half = len(names) // 2

    def halve(split: RawSplit | None) -> RawSplit | None:
        return split and RawSplit(split.images, (split.labels // half).astype(np.int32))

    train = halve(raw.train)
    assert train is not None
    merged = (f"{names[0]}-{names[half - 1]}", f"{names[half]}-{names[-1]}")
    return raw._replace(
        train=train, test=halve(raw.test), valid=halve(raw.valid), class_names=merged
    )


def _limit(split: RawSplit | None, limit: int | None) -> RawSplit | None:
    if split is None or limit is None or limit >= len(split.labels):
        return split
    return rows(split, spread(split.labels, limit))


def _check_train(config: DatasetConfig, raw: RawDataset) -> None:
    labels, names = raw.train.labels, raw.class_names
    if len(labels) and (labels.min() < 0 or labels.max() >= len(names)):
        raise UserError(
            f"dataset {config.name}: training labels run from {labels.min()} to {labels.max()},"
            f" but there are {len(names)} classes (0 to {len(names) - 1})"
        )
    counts = np.bincount(labels, minlength=len(names))
    if (empty := np.flatnonzero(counts == 0)).size:
        listed = ", ".join(f"{label} ({names[label]})" for label in empty[:5])
        raise UserError(f"dataset {config.name}: no training image of class {listed}")


def _check_held_out(config: DatasetConfig, raw: RawDataset) -> None:
    shape, classes = raw.train.images.shape[1:], len(raw.class_names)
    for name, split in (("test", raw.test), ("validation", raw.valid)):
        if split is None:
            continue
        if not len(split.labels):
            raise UserError(f"dataset {config.name}: the {name} split is empty")
        if split.images.shape[1:] != shape:
            raise UserError(
                f"dataset {config.name}: {name} images are {split.images.shape[1:]},"
                f" training images {shape}; dataset.image_size=<pixels> makes sizes equal"
            )
        if split.labels.min() < 0 or split.labels.max() >= classes:
            raise UserError(
                f"dataset {config.name}: {name} labels run from {split.labels.min()} to"
                f" {split.labels.max()}, but there are {classes} classes (0 to {classes - 1})"
            )
