"""task evaluate: measure any coreset on a dataset, with the run's or a freshly fitted transform."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from distill_cli.config import PruneConfig, parse
from distill_cli.core.coreset_io import (
    CoresetFile,
    class_counts,
    load_coreset,
    record,
    sha256,
)
from distill_cli.core.files import write_json
from distill_cli.core.lock import locked
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError
from distill_cli.formats.origins import not_theirs
from distill_cli.init.random import Config as RandomInit
from distill_cli.naming import digest
from distill_cli.report.parse import measured_what, parse_result
from distill_cli.report.terminal import summary
from distill_cli.tasks.coreset_fits import Target, ready
from distill_cli.tasks.distill import make_reporter
from distill_cli.tasks.finished import agreeing
from distill_cli.tasks.job import Job, as_tree
from distill_cli.tasks.measure import Row, evaluation_problem, initial_coreset, measure
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.problem import load_problem
from distill_cli.tasks.runtime import (
    Stopwatch,
    configure_jax,
    log_file,
    peak_memory_mb,
)
from distill_cli.train.signals import stop_requests
from distill_cli.version import __version__

DEFAULT_RIDGE = 5e-3  # where neither the file nor the protocol says (RFAD section 10.1)
log = logging.getLogger(__name__)


def parse_target(composed: DictConfig) -> Target:
    """Read the coreset first (cheap, most often wrong), then the configuration."""
    source = composed.coreset
    file = load_coreset(source.path, source.format, source.get("index", 0))
    config = parse(composed)
    if not config.evaluation.protocols:
        raise UserError('evaluation: nothing to do; give "evaluation=[krr_nngp,krr_ntk,finite]"')
    ipc = most_per_class(file) if config.ipc else 0
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
    with locked(folder), log_file(folder / "distill.log"), stop_requests(at_once=True) as stop:
        problem, file = ready(load_problem(config), target)
        counts = class_counts(np.asarray(file.coreset.labels))
        if other := not_theirs(file.origin, config.evaluation.protocols):
            log.warning("coreset=%s: %s", file.path, other)
        tested = np.unique(problem.dataset.test.labels)
        warn_of_missing(file, counts, tested, problem.dataset.class_names)
        baseline = None
        if config.evaluation.baseline and config.ipc:
            drawn = initial_coreset(problem.unpruned, RandomInit()).coreset
            baseline = drawn if counts is None else as_many(drawn, counts)
        ridge = DEFAULT_RIDGE if file.ridge is None else file.ridge
        protocols = list(config.evaluation.protocols)
        reporter = make_reporter(job, stop)
        measured = evaluation_problem(
            problem, config.evaluation, protocols, ridge, reporter, file.ridge_weights, folder
        )
        result: dict[str, Any] = {
            "schema": 1, "version": __version__, "command": command,
            "method": record(file.path).get("method"),
            "dataset": problem.dataset.name, "device": device_name(),
            **sizes(counts, tested, config.ipc),
            "coreset": {
                "path": str(file.path), "sha256": sha256(file.path), "format": file.format,
                "note": file.note, "origin": file.origin or None,
                "images": list(file.coreset.images.shape),
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
        print(summary(parse_result(result)))
        print(f"result   {folder / 'evaluation.json'}")
    return result


def most_per_class(file: CoresetFile) -> int:
    """Images of the largest class; where that is not known, the mean, rounded down."""
    labels = np.asarray(file.coreset.labels)
    counts = class_counts(labels)
    return max(1, len(labels) // labels.shape[1] if counts is None else int(counts.max()))


def sizes(counts: np.ndarray | None, tested: np.ndarray, ipc: int) -> dict[str, Any]:
    """For the result: `ipc` where all tested classes have as many, else null, and `per_class`."""
    if ipc == 0 or (counts is not None and len(set(counts[tested].tolist())) == 1):
        return {"ipc": ipc}
    return {"ipc": None, "per_class": None if counts is None else counts.tolist()}


def as_many(drawn: Coreset, counts: np.ndarray) -> Coreset:
    """Of real images as many of each class as a coreset has."""
    hard = np.asarray(drawn.labels).argmax(1)
    kept = np.concatenate([np.flatnonzero(hard == at)[:n] for at, n in enumerate(counts)])
    return drawn._replace(images=drawn.images[kept], labels=drawn.labels[kept])


def warn_of_missing(
    file: CoresetFile, counts: np.ndarray | None, tested: np.ndarray, names: Sequence[str]
) -> None:
    """Name the classes that are tested and of which the coreset has no image."""
    if counts is not None and (missing := [at for at in tested if counts[at] == 0]):
        said = ", ".join(f"{at} ({names[at]})" for at in missing)
        log.warning("coreset=%s: no image of class %s", file.path, said)


def conditions(config: dict[str, Any]) -> str:
    """Digest of what decides a measurement besides protocol and coreset: dataset, preprocessing,
    architecture, seed."""
    keys = ("dataset", "preprocess", "architecture", "validation", "seed", "ipc")
    limit = {"limit_test": config["dataset"].get("limit_test")}
    return digest({key: config[key] for key in keys} | limit)


def earlier_rows(path: Path, result: dict[str, Any]) -> list[Row]:
    """Rows of an earlier evaluation.json, if they belong to this coreset, dataset and version."""
    former = agreeing(path, {key: result[key] for key in ("schema", "version", "dataset")}) or {}
    known = former.get("coreset")
    if not isinstance(known, dict) or known.get("sha256") != result["coreset"]["sha256"]:
        return []
    return [row for row in former.get("evaluations", []) if "conditions" in row]


def merged(new: list[Row], earlier: list[Row]) -> list[Row]:
    """New rows, then the earlier ones that none of them repeats."""
    measured = {measured_what(row) for row in new}
    return [*new, *(row for row in earlier if measured_what(row) not in measured)]
