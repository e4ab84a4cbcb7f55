"""task distill: data, distillation, export, evaluation, report; resumable at every point."""

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from distill_cli import report
from distill_cli.config import Config
from distill_cli.core import devices, hosts
from distill_cli.core.coreset_io import load_coreset, save_coreset
from distill_cli.core.files import write_json, write_npz
from distill_cli.core.lock import locked
from distill_cli.core.types import Coreset
from distill_cli.errors import RunStopped
from distill_cli.init.random import Config as RandomInit
from distill_cli.methods.base import make_distiller, steps_of
from distill_cli.report.parse import parse_result
from distill_cli.report.terminal import summary
from distill_cli.tasks.code import usable
from distill_cli.tasks.job import Job, Result, as_tree, say
from distill_cli.tasks.measure import (
    Start,
    evaluation_problem,
    initial_coreset,
    measure,
    pending,
)
from distill_cli.tasks.plan import estimated_seconds, is_long, plan, require_memory, step_flops
from distill_cli.tasks.problem import Problem, load_problem
from distill_cli.tasks.run_files import export, finished_result, write_missing
from distill_cli.tasks.runtime import (
    Stopwatch,
    configure_jax,
    log_file,
    peak_memory_mb,
)
from distill_cli.tasks.sweep_rule import median_rule
from distill_cli.tasks.together import same_data, together, until_first_is_done
from distill_cli.train import loop
from distill_cli.train.batches import training_set
from distill_cli.train.checkpoint import Checkpoints, Identity
from distill_cli.train.growth import Part, part_configs
from distill_cli.train.loggers import Run as LoggedRun
from distill_cli.train.loggers import open_sinks
from distill_cli.train.progress import clock, make_progress
from distill_cli.train.signals import StopRequest, stop_requests
from distill_cli.train.tracking import NoTracker, Sink, Tracker
from distill_cli.version import __version__

log = logging.getLogger(__name__)


def run(job: Job) -> Result:
    """Run a job to its end, or go on with it, or return what it gave before.

    Raises UserError for wrong input, RunStopped after a signal or a loss that is not finite,
    StorageError where nothing more can be written. In a run of several processes (core/hosts.py)
    the first holds the folder's lock, decides what there is to do, writes and evaluates; the others
    return the folder only.
    """
    with locked(job.folder) if hosts.first() else contextlib.nullcontext():
        return run_locked(job)


def run_locked(job: Job) -> Result:
    """The same by the one command that works on the folder."""
    done, left = None, "all"
    if hosts.first():
        done = usable(job.folder, finished_result(job), job.config, job.code)
    if done is not None:
        left = "evaluation" if pending(job.config.evaluation, done["evaluations"]) else "nothing"
    job, left = together(job, left)
    if done is not None and left == "nothing":
        write_missing(job)
        say(job, f"finished before: {job.folder}\n{summary(parse_result(done))}")
        return done | {"folder": str(job.folder)}
    if not hosts.first() and left != "all":
        return until_first_is_done(job)
    if check := getattr(job.config.init, "check_path", None):
        check()
    configure_jax(job.config.kernel.name, job.config.devices)
    watch = Stopwatch()
    with log_file(job.folder / "distill.log"), stop_requests(at_once=True) as stop:
        problem = load_problem(job.config)
        seconds = {"data": watch.lap()}
        start = initial_coreset(problem, job.config.init)
        seconds["selection"] = watch.lap()
        if done is None:
            same_data(problem, start.coreset)
            if start.extremes is not None and hosts.first():
                write_npz(job.folder / "coreset" / "initial_scores.npz", start.extremes)
            outcome = distil(job, problem, start, stop)
            if not hosts.first():
                return until_first_is_done(job, stop)
            devices.keep_local()
            done = export(job, problem, outcome, start, seconds)
            watch.lap()
        elif hosts.count() > 1:
            devices.keep_local()
        result = evaluate_all(job, problem, done, stop, watch)
    say(job, summary(parse_result(result)))
    say(job, f"result   {job.folder / 'report.html'}")
    return result | {"folder": str(job.folder)}


def distil(job: Job, problem: Problem, start: Start, stop: StopRequest) -> loop.Outcome:
    """The training loop with everything it needs."""
    config = job.config
    require_memory(problem)
    parts = make_parts(problem, start)
    distiller = parts[-1].distiller
    labels = problem.dataset.train.labels[problem.train_rows]
    batch = config.batch.size * config.batch.number
    steps = steps_of(distiller, config.steps, len(labels), batch)
    config = dataclasses.replace(config, steps=steps)  # UserError where snapshots lie beyond
    seconds = estimated_seconds(step_flops(problem, distiller))
    say(job, plan(problem, distiller, job.folder, steps, seconds))
    if is_long(seconds, steps):
        count_down(job, stop)
    images = problem.train_images
    train = training_set(
        problem.preprocess,
        problem.dataset.train.images[problem.train_rows] if images is None else images[:0],
        None if images is None else images[problem.train_rows],
        labels,
    )
    train = devices.on_all(train)
    identity = Identity(__version__, job.digest, problem.dataset.fingerprint)
    place = job.folder / "checkpoints"
    checkpoints = Checkpoints(place, identity, config.checkpoint.keep, job.code)
    metrics = job.folder / "metrics.jsonl"
    valid_images, valid_labels = problem.valid
    progress = make_progress(config.progress, config.steps)
    names, ridge = problem.dataset.class_names, getattr(config.method, "ridge", None)

    def snapshot(step: int, coreset: Coreset) -> None:
        if not hosts.first():
            return
        place = job.folder / "coreset" / "steps" / f"{step:06d}.npz"
        save_coreset(place, coreset, names, ridge, start.ridge_weights)

    def tracker(resume_at: int | None) -> Tracker:
        if not hosts.first():
            return NoTracker()
        return Tracker(metrics, resume_at, sinks(job, config, resume_at))

    try:
        return loop.run(
            config, parts, start.coreset, train, (valid_images, valid_labels), checkpoints,
            tracker, progress, stop, snapshot,
        )  # fmt: skip
    finally:
        progress.close()


def count_down(job: Job, stop: StopRequest, seconds: int = 5) -> None:
    """On a terminal, a moment to think better of a very long run; Ctrl-C ends it."""
    if job.config.progress in ("none", "plain") or not sys.stdout.isatty():
        return
    for left in range(seconds, 0, -1):
        print(f"\rbegins in {left} s; Ctrl-C ends it ", end="", flush=True)
        time.sleep(1)
        if stop:
            print()
            raise RunStopped("before the first step; nothing was made", stop.exit_code)
    print("\r" + " " * 40 + "\r", end="", flush=True)


def make_parts(problem: Problem, start: Start) -> list[Part]:
    """The distillers of the run's parts, with their own sizes; one where it does not grow."""
    parts = []
    for at, config in part_configs(problem.config):
        setting = problem.sized(config).setting
        weighted = dataclasses.replace(setting, ridge_weights=start.ridge_weights)
        parts.append(Part(at, config, make_distiller(weighted)))
    return parts


def sinks(job: Job, config: Config, resume_at: int | None) -> list[Sink]:
    """Where numbers go besides metrics.jsonl: the chosen loggers, and the rule of a sweep that
    stops bad trials."""
    name = f"{config.method.name}-{config.dataset.name}-ipc{config.ipc}-seed{config.seed}"
    about = LoggedRun(job.folder, name, job.digest, as_tree(config), resume_at)
    rule = median_rule(job.folder, config) if hosts.count() == 1 else None
    return [*open_sinks(config.logger, about), *([rule] if rule else [])]


def evaluate_all(
    job: Job, problem: Problem, result: Result, stop: StopRequest, watch: Stopwatch
) -> Result:
    """Run the protocols that are missing, writing result.json after each; then the reports."""
    evaluation = job.config.evaluation
    names = pending(evaluation, result["evaluations"])
    file = load_coreset(job.folder)
    ridge = result["config"]["method"].get("ridge", 5e-3)
    reporter = make_reporter(job, stop)
    target = evaluation_problem(
        problem, evaluation, names, ridge, reporter, file.ridge_weights, job.folder
    )
    baseline = None
    if evaluation.baseline and names and job.config.ipc:  # else there is nothing to draw from
        baseline = initial_coreset(problem.unpruned, RandomInit()).coreset
    for row in measure(names, evaluation, file.coreset, baseline, target):
        kept = [old for old in result["evaluations"] if old["protocol"] != row["protocol"]]
        result["evaluations"] = in_order(evaluation.protocols, [*kept, row])
        lap = watch.lap()
        result["seconds"]["evaluate"] = round(result["seconds"]["evaluate"] + lap, 2)
        result["seconds"]["total"] = round(result["seconds"]["total"] + lap, 2)
        result["peak_memory_mb"] = peak_memory_mb()
        write_json(job.result_file, result)
    report.write_all(job.folder)
    return result


def in_order(protocols: dict[str, Any], rows: list[Result]) -> list[Result]:
    """Rows in the order asked for, others behind them."""
    order = {name: index for index, name in enumerate(protocols)}
    return sorted(rows, key=lambda row: order.get(row["protocol"], len(order)))


def make_reporter(job: Job, stop: StopRequest) -> Callable[[str, float], None]:
    """Progress of long evaluations with time left; ends the task when a signal came."""
    started: dict[str, float] = {}
    shown: dict[str, float] = {}

    def report_progress(what: str, fraction: float) -> None:
        if stop:
            raise RunStopped(
                "stopped while evaluating; the coreset is saved, the same command goes on with "
                "the evaluation",
                stop.exit_code,
            )
        now = time.monotonic()
        begun = started.setdefault(what, now)
        if fraction >= 1:
            started.pop(what, None)
            shown.pop(what, None)
        elif now - max(begun, shown.get(what, begun)) > 10 and fraction > 0:
            shown[what] = now
            left = (now - begun) * (1 - fraction) / fraction
            say(job, f"{what}: {fraction:.0%}, {clock(left)} left")

    return report_progress
