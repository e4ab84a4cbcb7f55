"""Running evaluation protocols on a coreset and its baseline, as rows of result.json."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from distill_cli.config import EvaluationConfig
from distill_cli.core.types import Coreset, Metric, one_hot_centred
from distill_cli.evaluation.base import Problem as EvaluationProblem
from distill_cli.evaluation.base import Report, evaluate, exact_kernels
from distill_cli.init.base import Request, initialise, json_record
from distill_cli.init.features import step_zero_features
from distill_cli.tasks.problem import Problem

Row = dict[str, Any]


def settings_of(name: str, evaluation: EvaluationConfig) -> dict[str, Any]:
    """What defines a protocol's result besides the coreset; equal settings are not run again."""
    settings = dataclasses.asdict(evaluation.protocols[name])
    if name.startswith("krr_"):
        settings.update(limit=evaluation.limit, engine=evaluation.engine)
    # As JSON gives it back: tuples are lists there.
    return json.loads(json.dumps({**settings, "baseline": evaluation.baseline}))


def pending(evaluation: EvaluationConfig, rows: list[Row]) -> list[str]:
    """Protocols that are asked for and not among the rows with the same settings."""
    done = {row["protocol"]: row.get("settings") for row in rows}
    return [n for n in evaluation.protocols if done.get(n) != settings_of(n, evaluation)]


def evaluation_problem(
    problem: Problem, evaluation: EvaluationConfig, names: list[str], ridge: float, report: Report
) -> EvaluationProblem:
    """The arrays and settings that protocols work on."""
    return EvaluationProblem(
        architecture=problem.architecture,
        dataset=problem.config.dataset.name,
        ipc=problem.config.ipc,
        valid=problem.valid,
        test=problem.test,
        ridge=ridge,
        seed=problem.config.seed,
        kernels=exact_kernels(names),
        engine=evaluation.engine,
        memory_mb=evaluation.memory_mb,
        limit=evaluation.limit,
        report=report,
    )


def measure(
    names: list[str],
    evaluation: EvaluationConfig,
    coreset: Coreset,
    baseline: Coreset | None,
    target: EvaluationProblem,
) -> Iterator[Row]:
    """Rows of result.json, one protocol after another; the baseline under the same protocol."""
    for name in names:
        metric = evaluate(name, evaluation.protocols[name], coreset, target)
        row = row_of(metric, settings_of(name, evaluation))
        if baseline is not None:
            other = evaluate(name, evaluation.protocols[name], baseline, target)
            row["baseline_random"] = {
                "accuracy": other.accuracy, "std": other.std, "n": other.n,
                "seconds": round(other.seconds, 2),
                "architectures": other.detail.get("architectures"),
            }  # fmt: skip
        yield row


def row_of(metric: Metric, settings: dict[str, Any]) -> Row:
    """A metric as it stands in result.json."""
    row = dataclasses.asdict(metric)
    row["split"] = "test"
    row["seconds"] = round(metric.seconds, 2)
    row["settings"] = settings
    return row


class Start(NamedTuple):
    """A starting set with fixed labels; rows: the training images it took, None if it has none;
    record: what the initialiser tells about its choice, as JSON values."""

    coreset: Coreset
    rows: np.ndarray | None
    record: Row


def initial_coreset(problem: Problem, init: Any) -> Start:
    """The starting set of an initialiser: ipc images of every class that is present.

    The initialiser counts these classes 0, 1, ...; the targets have the width of all classes.
    """
    config, classes = problem.config, problem.dataset.classes
    present, labels = np.unique(problem.dataset.train.labels, return_inverse=True)
    labels = labels.astype(np.int32)[problem.train_rows]
    if problem.train_images is None:
        images: Any = LazyRows(problem)
    else:
        images = problem.train_images[problem.train_rows]
    features = None
    if getattr(init, "features", "") == "method":
        features = step_zero_features(
            config, problem.architecture, problem.dataset.image_shape, problem.micro
        )
    request = Request(
        images=images, labels=labels, ipc=config.ipc, classes=len(present),  # type: ignore[arg-type]
        seed=config.seed, architecture=problem.architecture, micro=problem.micro,
        method_features=features, takes_labels=True,
    )  # fmt: skip
    found = initialise(init, request)
    own = found.labels
    if own is None:
        own = np.repeat(np.arange(len(present)), config.ipc)
    targets = np.asarray(one_hot_centred(present[own], classes))
    rows = None if found.rows is None else problem.train_rows[found.rows]
    coreset = Coreset(found.images, targets, np.zeros((), np.float64))
    return Start(coreset, rows, json_record(found.record))


class LazyRows:
    """Looks like the preprocessed training split, but preprocesses only the rows asked for."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.shape = (len(problem.train_rows), *problem.dataset.image_shape)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._problem.train_subset(self._problem.train_rows[rows])
