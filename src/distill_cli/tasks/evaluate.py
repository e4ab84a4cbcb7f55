"""task evaluate: measure any coreset on a dataset, with the run's or a freshly fitted transform."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from distill_cli.config import Config, PruneConfig, parse
from distill_cli.core.coreset_io import CoresetFile, load_coreset, record, sha256
from distill_cli.core.files import read_json, write_json
from distill_cli.core.lock import locked
from distill_cli.core.types import Dataset
from distill_cli.data.preprocess import Preprocess
from distill_cli.errors import UserError
from distill_cli.formats import likeness
from distill_cli.init.random import Config as RandomInit
from distill_cli.naming import digest
from distill_cli.report.results import measured_what
from distill_cli.report.terminal import summary
from distill_cli.tasks.distill import Job, as_tree, make_reporter
from distill_cli.tasks.measure import Row, evaluation_problem, initial_coreset, measure
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.problem import Problem, load_problem
from distill_cli.tasks.runtime import (
    Stopwatch,
    configure_jax,
    log_file,
    peak_memory_mb,
)
from distill_cli.train.signals import stop_requests
from distill_cli.version import __version__

DEFAULT_RIDGE = 5e-3  # where neither the file nor the protocol says (RFAD section 10.1)
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


def parse_target(composed: DictConfig) -> Target:
    """Read the coreset first (cheap, most often wrong), then the configuration."""
    source = composed.coreset
    file = load_coreset(source.path, source.format, source.get("index", 0))
    config = parse(composed)
    if not config.evaluation.protocols:
        raise UserError('evaluation: nothing to do; give "evaluation=[krr_nngp,krr_ntk,finite]"')
    classes = file.coreset.labels.shape[1]
    ipc = max(1, len(file.coreset.images) // classes) if config.ipc else 0
    # A recorded command may prune what it distils from; a measurement leaves nothing out.
    config = dataclasses.replace(config, ipc=ipc, prune=PruneConfig())
    return Target(file, config, bool(source.get("force", False)))


def run(target: Target, folder: Path, command: str) -> dict[str, Any]:
    """Measure; return {..., evaluations: [one per protocol]}.

    `folder`/evaluation.json holds the same, and behind these rows those that earlier commands
    measured on this very coreset under other protocols or settings.
    """
    configure_jax(wanted=target.config.devices)
    config, watch = target.config, Stopwatch()
    job = Job(config, "", folder, command)
    with locked(folder), log_file(folder / "distill.log"), stop_requests() as stop:
        problem, file = ready(load_problem(config), target)
        baseline = None
        if config.evaluation.baseline and config.ipc:
            baseline = initial_coreset(problem.unpruned, RandomInit()).coreset
        ridge = DEFAULT_RIDGE if file.ridge is None else file.ridge
        protocols = list(config.evaluation.protocols)
        reporter = make_reporter(job, stop)
        measured = evaluation_problem(
            problem, config.evaluation, protocols, ridge, reporter, file.ridge_weights
        )
        result: dict[str, Any] = {
            "schema": 1, "version": __version__, "command": command,
            "method": record(file.path).get("method"),
            "dataset": problem.dataset.name, "ipc": config.ipc, "device": device_name(),
            "coreset": {
                "path": str(file.path), "sha256": sha256(file.path), "format": file.format,
                "note": file.note, "images": list(file.coreset.images.shape),
            },
            "config": as_tree(config), "evaluations": [],
        }  # fmt: skip
        earlier = earlier_rows(folder / "evaluation.json", result)
        stamp = {"conditions": conditions(result["config"]), "command": command}
        for row in measure(protocols, config.evaluation, file.coreset, baseline, measured):
            result["evaluations"].append(row | stamp)
            result["seconds"] = {"total": watch.total()}
            result["peak_memory_mb"] = peak_memory_mb()
            rows = merged(result["evaluations"], earlier)
            write_json(folder / "evaluation.json", result | {"evaluations": rows})
    if config.progress != "none":
        print(summary(result))
        print(f"result   {folder / 'evaluation.json'}")
    return result


def conditions(config: dict[str, Any]) -> str:
    """Digest of what decides a measurement besides protocol and coreset: dataset, preprocessing,
    architecture, seed."""
    keys = ("dataset", "preprocess", "architecture", "validation", "seed", "ipc")
    limit = {"limit_test": config["dataset"].get("limit_test")}
    return digest({key: config[key] for key in keys} | limit)


def earlier_rows(path: Path, result: dict[str, Any]) -> list[Row]:
    """Rows of an earlier evaluation.json, if they belong to this coreset, dataset and version."""
    former = read_json(path)
    if not isinstance(former, dict) or not isinstance(former.get("coreset"), dict):
        return []
    same = all(former.get(key) == result[key] for key in ("schema", "version", "dataset"))
    if not same or former["coreset"].get("sha256") != result["coreset"]["sha256"]:
        return []
    return [row for row in former.get("evaluations", []) if "conditions" in row]


def merged(new: list[Row], earlier: list[Row]) -> list[Row]:
    """New rows, then the earlier ones that none of them repeats."""
    measured = {measured_what(row) for row in new}
    return [*new, *(row for row in earlier if measured_what(row) not in measured)]


def ready(problem: Problem, target: Target) -> tuple[Problem, CoresetFile]:
    """The problem with the transform that belongs to the coreset, and the coreset in its space.

    Raises UserError where sizes do not fit, or where the coreset's record of its preprocessing
    contradicts the configuration; warns where only its statistics do.
    """
    file = target.file
    check_fits(target, problem)
    known = None if target.force else file.transform
    if known is not None:
        transform = Preprocess.load(known)
        check_record(record(file.path), transform, problem, file)
        problem = dataclasses.replace(problem, preprocess=transform)
    if file.pixels:
        raw = file.coreset.images * np.float32(problem.preprocess.pixel_max)
        images = np.asarray(problem.preprocess.transform(raw))
        return problem, dataclasses.replace(file, coreset=file.coreset._replace(images=images))
    if known is None and (reason := doubt(file, problem)) is not None:
        log.warning("coreset=%s: %s", file.path, reason)
    return problem, file


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
