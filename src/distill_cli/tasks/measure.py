"""Running evaluation protocols on a coreset and its baseline, as rows of result.json."""

import dataclasses
import importlib
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill_cli.config import EvaluationConfig
from distill_cli.core.types import Coreset, Metric, one_hot_centred
from distill_cli.evaluation.base import Problem as EvaluationProblem
from distill_cli.evaluation.base import Report, evaluate, exact_kernels
from distill_cli.evaluation.by_class import class_fields
from distill_cli.init.base import Request, initialise, json_record
from distill_cli.init.features import step_zero_features
from distill_cli.tasks.code import code_of_protocol
from distill_cli.tasks.problem import Problem
from distill_cli.tasks.stored_start import stored_start

Row = dict[str, Any]
PARTIAL = "partial"  # subfolder of a measurement under way
SHOWN = 5  # images of a class with the highest, and with the lowest, scores that a run keeps


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
    problem: Problem,
    evaluation: EvaluationConfig,
    names: list[str],
    ridge: float,
    report: Report,
    ridge_weights: np.ndarray | None = None,
    folder: Path | None = None,
) -> EvaluationProblem:
    """The arrays and settings that protocols work on; `folder` keeps what is finished of a long
    measurement until `measure` is through."""
    return EvaluationProblem(
        architecture=problem.architecture,
        dataset=problem.config.dataset.name,
        ipc=problem.config.ipc,
        valid=problem.valid,
        test=problem.test,
        ridge=ridge,
        ridge_weights=ridge_weights,
        seed=problem.config.seed,
        kernels=exact_kernels(names),
        engine=evaluation.engine,
        memory_mb=evaluation.memory_mb,
        limit=evaluation.limit,
        report=report,
        class_names=tuple(problem.dataset.class_names),
        partial=None if folder is None else folder / PARTIAL,
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
        row = row_of(metric, settings_of(name, evaluation), target.class_names)
        row["code"] = code_of_protocol(evaluation.protocols[name])
        if baseline is not None:
            plain = dataclasses.replace(target, ridge_weights=None)
            other = evaluate(name, evaluation.protocols[name], baseline, plain)
            row["baseline_random"] = {
                "accuracy": other.accuracy, "std": other.std, "n": other.n,
                "seconds": round(other.seconds, 2),
                "architectures": other.detail.get("architectures"),
                **class_fields(other.confusion, other.n, target.class_names),
            }  # fmt: skip
        yield row
    if target.partial is not None:
        shutil.rmtree(target.partial, ignore_errors=True)


def row_of(metric: Metric, settings: dict[str, Any], class_names: Sequence[str] = ()) -> Row:
    """A metric as it stands in result.json."""
    row = dataclasses.asdict(dataclasses.replace(metric, confusion=None))
    del row["confusion"]
    row.update(class_fields(metric.confusion, metric.n, class_names))
    row["split"] = split_of(metric.protocol)
    row["seconds"] = round(metric.seconds, 2)
    row["settings"] = settings
    return row


def split_of(protocol: str) -> str:
    """The split whose images a protocol measures on: test, unless its module says otherwise."""
    module = importlib.import_module(f"distill_cli.evaluation.{protocol}")
    return getattr(module, "SPLIT", "test")


class Start(NamedTuple):
    """A starting set with fixed labels; rows: the training images it took, None if it has none;
    record: what the initialiser tells about its choice, as JSON values; ridge_weights: see
    init.base.Initial; extremes: the training images with its highest and lowest scores
    (`extremes`), None if it gives no scores."""

    coreset: Coreset
    rows: np.ndarray | None
    record: Row
    ridge_weights: np.ndarray | None = None
    extremes: dict[str, np.ndarray] | None = None


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
        method_features=features, takes_labels=True, stored=partial(stored_start, problem),
    )  # fmt: skip
    found = initialise(init, request)
    own = found.labels
    if own is None:
        own = np.repeat(np.arange(len(present)), config.ipc)
    targets = np.asarray(one_hot_centred(present[own], classes))
    if found.targets is not None and config.labels == "learned":
        targets = np.asarray(found.targets, np.float32)
    rows = None if found.rows is None else problem.train_rows[found.rows]
    coreset = Coreset(found.images, targets, np.asarray(found.log_temperature, np.float64))
    scores = (found.record or {}).get("scores")
    outer = None if scores is None else extremes(problem, np.asarray(scores), rows)
    return Start(coreset, rows, json_record(found.record), found.ridge_weights, outer)


def extremes(problem: Problem, scores: np.ndarray, taken: np.ndarray | None) -> dict[str, Any]:
    """The training images of each class with the SHOWN highest and lowest scores, as pixels.

    scores: (n,) of problem.train_rows; an image without a score (below 0, not finite) is left out.
    Arrays of equal length: images (m, h, w, c) float32 in [0, 1], scores, rows of the training
    split, labels, highest (bool), taken (whether the row is in the starting set); class by class,
    highest first, then the lowest, lowest first.
    """
    data, rows = problem.dataset, problem.train_rows
    labels = data.train.labels[rows]
    picks, highest = [], []
    for label in range(data.classes):
        members = np.flatnonzero((labels == label) & np.isfinite(scores) & (scores >= 0))
        order = members[np.argsort(scores[members], kind="stable")]
        count = min(SHOWN, len(order) // 2)
        picks += [*order[::-1][:count], *order[:count]]
        highest += [True] * count + [False] * count
    places = np.array(picks, int)
    chosen = rows[places]
    pixels = np.asarray(data.train.images[chosen], np.float32) / np.float32(data.pixel_max)
    return {
        "images": pixels, "scores": scores[places].astype(np.float64), "rows": chosen,
        "labels": labels[places], "highest": np.array(highest, bool),
        "taken": np.isin(chosen, [] if taken is None else taken),
    }  # fmt: skip


class LazyRows:
    """Looks like the preprocessed training split, but preprocesses only the rows asked for."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.shape = (len(problem.train_rows), *problem.dataset.image_shape)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._problem.train_subset(self._problem.train_rows[rows])
