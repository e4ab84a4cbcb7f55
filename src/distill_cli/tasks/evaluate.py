"""task evaluate: measure any coreset on a dataset, with the run's or a freshly fitted transform."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.config import Config, parse
from distill_cli.core.coreset_io import CoresetFile, load_coreset, sha256
from distill_cli.core.files import write_json
from distill_cli.data.preprocess import Preprocess
from distill_cli.errors import UserError
from distill_cli.init.random import Config as RandomInit
from distill_cli.report.terminal import summary
from distill_cli.tasks.distill import Job, as_tree, make_reporter
from distill_cli.tasks.measure import evaluation_problem, initial_coreset, measure
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.problem import Problem, load_problem
from distill_cli.tasks.runtime import (
    Stopwatch,
    configure_jax,
    locked,
    log_file,
    peak_memory_mb,
)
from distill_cli.train.signals import stop_requests
from distill_cli.version import __version__

DEFAULT_RIDGE = 5e-3  # where neither the file nor the protocol says (RFAD section 10.1)


@dataclass(frozen=True)
class Target:
    """A coreset file and the configuration whose dataset and protocols measure it."""

    file: CoresetFile
    config: Config


def parse_target(composed: DictConfig) -> Target:
    """Read the coreset first (cheap, most often wrong), then the configuration."""
    source = composed.coreset
    file = load_coreset(source.path, source.format)
    config = parse(composed)
    if not config.evaluation.protocols:
        raise UserError('evaluation: nothing to do; give "evaluation=[krr_nngp,krr_ntk,finite]"')
    classes = file.coreset.labels.shape[1]
    ipc = max(1, len(file.coreset.images) // classes)
    return Target(file, dataclasses.replace(config, ipc=ipc))


def run(target: Target, folder: Path, command: str) -> dict[str, Any]:
    """Measure; write evaluation.json in `folder`; return {..., evaluations: [one per protocol]}."""
    configure_jax()
    config, file, watch = target.config, target.file, Stopwatch()
    job = Job(config, "", folder, command)
    with locked(folder), log_file(folder / "distill.log"), stop_requests() as stop:
        problem = with_transform_of_run(load_problem(config), file)
        check_fits(file, problem)
        baseline = None
        if config.evaluation.baseline:
            baseline, _ = initial_coreset(problem, RandomInit())
        ridge = DEFAULT_RIDGE if file.ridge is None else file.ridge
        protocols = list(config.evaluation.protocols)
        reporter = make_reporter(job, stop)
        measured = evaluation_problem(problem, config.evaluation, protocols, ridge, reporter)
        result: dict[str, Any] = {
            "schema": 1, "version": __version__, "command": command,
            "dataset": problem.dataset.name, "ipc": config.ipc, "device": device_name(),
            "coreset": {
                "path": str(file.path), "sha256": sha256(file.path),
                "images": list(file.coreset.images.shape),
            },
            "config": as_tree(config), "evaluations": [],
        }  # fmt: skip
        for row in measure(protocols, config.evaluation, file.coreset, baseline, measured):
            result["evaluations"].append(row)
            result["seconds"] = {"total": watch.total()}
            result["peak_memory_mb"] = peak_memory_mb()
            write_json(folder / "evaluation.json", result)
    if config.progress != "none":
        print(summary(result))
        print(f"result   {folder / 'evaluation.json'}")
    return result


def with_transform_of_run(problem: Problem, file: CoresetFile) -> Problem:
    """Use the exact transform that lies beside the coreset, if one does."""
    beside = file.path.parent / "preprocess.npz"
    if not beside.is_file():
        return problem
    return dataclasses.replace(problem, preprocess=Preprocess.load(beside))


def check_fits(file: CoresetFile, problem: Problem) -> None:
    """UserError unless image size and number of classes agree with the dataset."""
    data = problem.dataset
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
