"""Whether a coreset fits the dataset that it is measured on: sizes, classes, preprocessing."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill_cli.config import Config
from distill_cli.core.coreset_io import CoresetFile, centred_targets, record
from distill_cli.core.types import Dataset
from distill_cli.data.preprocess import Preprocess
from distill_cli.errors import UserError
from distill_cli.formats import likeness
from distill_cli.formats.detect import declared_preprocess
from distill_cli.tasks.problem import Problem

BY_FORMAT = ("dc", "rfad", "frepo")  # formats that say how their images were made
LOOKED_AT = 500  # training images whose statistics a coreset is compared with
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A coreset file and the configuration whose dataset and protocols measure it.

    force: measure under the configured preprocessing, whatever the coreset's record says.
    """

    file: CoresetFile
    config: Config
    force: bool = False


def ready(problem: Problem, target: Target) -> tuple[Problem, CoresetFile]:
    """The problem with the transform that belongs to the coreset, and the coreset in its space.

    Raises UserError where sizes do not fit, or where the coreset's record of its preprocessing
    contradicts the configuration; warns where only its statistics do.
    """
    target = dataclasses.replace(target, file=with_all_classes(target.file, problem.dataset))
    file = target.file
    check_fits(target, problem)
    known = None if target.force else file.transform
    if known is not None:
        transform = Preprocess.load(known)
        check_record(record(file.path), transform, problem, file)
        problem = dataclasses.replace(problem, preprocess=transform)
    if file.pixels:
        return problem, with_images(problem, file, np.asarray(file.coreset.images))
    if known is None and not declared(file, problem) and (reason := doubt(file, problem)):
        log.warning("coreset=%s: %s", file.path, reason)
    return problem, file


def with_images(problem: Problem, file: CoresetFile, pixels: np.ndarray) -> CoresetFile:
    """The file with pixels in [0, 1] as its images, preprocessed as the run does."""
    raw = np.asarray(pixels, np.float32) * np.float32(problem.preprocess.pixel_max)
    images = np.asarray(problem.preprocess.transform(raw))
    return dataclasses.replace(file, coreset=file.coreset._replace(images=images))


def with_all_classes(file: CoresetFile, data: Dataset) -> CoresetFile:
    """A file of integer labels whose last classes have no image, with labels for all classes."""
    labels = np.asarray(file.coreset.labels)
    classes, hard = labels.shape[1], labels.argmax(1)
    if file.class_names is not None or classes >= data.classes:
        return file
    if not np.array_equal(labels, centred_targets(file.path, hard, classes)):
        return file
    all_of_them = centred_targets(file.path, hard, data.classes)
    return dataclasses.replace(file, coreset=file.coreset._replace(labels=all_of_them))


def check_record(
    found: dict[str, Any], transform: Preprocess, problem: Problem, file: CoresetFile
) -> None:
    """UserError where the recorded settings differ from the configuration's on the same dataset.

    Without recorded settings the transform itself is used, and a difference in kind is warned
    about.
    """
    settings = problem.config.preprocess
    kept = found.get("preprocess")
    if isinstance(kept, dict) and found.get("dataset") == problem.dataset.name:
        asked = dataclasses.asdict(settings)
        made = dataclasses.asdict(type(settings)()) | kept
        wrong = [key for key in asked if key != "name" and listed(asked[key]) != listed(made[key])]
        if wrong:
            said = ", ".join(f"preprocess.{key}={made[key]}" for key in wrong)
            now = ", ".join(f"{key}={asked[key]}" for key in wrong)
            raise UserError(
                f"coreset={file.path}: made with {said}, but the configuration says {now}; leave "
                "preprocess out to use its own, or give coreset.force=true"
            )
        return
    whitened = transform.zca_values is not None
    steps = bool(np.any(transform.std != 1)), transform.per_image, whitened
    made_kind, asked_kind = likeness.kind(*steps), kind_asked(problem)
    if made_kind != asked_kind:
        log.warning(
            "coreset=%s: the transform beside it is used (%s), not preprocess=%s; "
            "coreset.force=true changes that",
            file.path, likeness.WORDS[made_kind], settings.name,
        )  # fmt: skip


def listed(value: Any) -> Any:
    """Tuples as JSON has them."""
    return list(value) if isinstance(value, tuple) else value


def kind_asked(problem: Problem) -> str:
    """The kind of images that the configured preprocessing gives."""
    settings = problem.config.preprocess
    return likeness.kind(settings.standardize, settings.per_image, settings.zca is not None)


def declared(file: CoresetFile, problem: Problem) -> bool:
    """Whether the configured preprocessing is the one that the file's format says, which counts for
    more than statistics: sets learned from noise look whitened. A name (KIP's) may be wrong."""
    if file.format not in BY_FORMAT:
        return False
    said = declared_preprocess(file.path, file.format, problem.dataset.name)
    return f"preprocess={problem.config.preprocess.name}" in said


def doubt(file: CoresetFile, problem: Problem) -> str | None:
    """Why the coreset's statistics do not fit the configured preprocessing; None where they do."""
    count = len(problem.dataset.train.labels)
    rows = np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int))
    raw = problem.dataset.train.images[rows]
    train = problem.preprocess.apply_numpy_chunks(raw)
    images = np.asarray(file.coreset.images)
    return likeness.doubt(images, train, raw / problem.dataset.pixel_max, kind_asked(problem))


def check_fits(target: Target, problem: Problem) -> None:
    """UserError unless image size, number of classes and their names agree with the dataset."""
    file, data = target.file, problem.dataset
    shape, classes = file.coreset.images.shape[1:], file.coreset.labels.shape[1]
    if tuple(shape) != data.image_shape:
        raise UserError(
            f"coreset={file.path}: images are {'x'.join(map(str, shape))}, but dataset={data.name} "
            f"has {'x'.join(map(str, data.image_shape))}; choose the dataset it was made from"
        )
    if classes != data.classes:
        raise UserError(
            f"coreset={file.path}: labels have {classes} classes, dataset={data.name} has "
            f"{data.classes}"
        )
    check_class_names(target, data)


def check_class_names(target: Target, data: Dataset) -> None:
    """UserError at the first class that coreset and dataset name differently.

    Case, spaces and punctuation do not count. With coreset.force=true, or where one side has bare
    numbers 0, 1, 2, ... (what is written where names are not known), classes are matched by number,
    with a warning.
    """
    file = target.file
    theirs, ours = (
        [plain_name(n) for n in names] for names in (file.class_names or (), data.class_names)
    )
    other = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), None)
    if other is None or file.class_names is None:
        return
    difference = (
        f"coreset={file.path}: class {other} is {file.class_names[other]!r}, but "
        f"{data.class_names[other]!r} in dataset={data.name}"
    )
    if not target.force and [str(i) for i in range(len(ours))] not in (theirs, ours):
        raise UserError(
            f"{difference}; choose the dataset it was made from, or give coreset.force=true to "
            "match classes by number"
        )
    log.warning("%s; classes are matched by number", difference)


def plain_name(name: str) -> str:
    """A class name without what spelling may change: "Ankle boot" and "ankle_boot" are one."""
    return "".join(filter(str.isalnum, name.lower()))
