"""The files of a run's folder: written at its end, recognised by the next command, written again
where they are gone."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from distill_cli import report
from distill_cli.core import devices, hosts
from distill_cli.core.coreset_io import save_coreset, sha256
from distill_cli.core.files import write_json
from distill_cli.methods.base import arithmetic
from distill_cli.report.damage import damage, rows_of, run_damage
from distill_cli.report.parse import parse_result
from distill_cli.tasks.finished import agreeing, whole
from distill_cli.tasks.job import Job, Result, as_tree, environment
from distill_cli.tasks.measure import Start, initial_coreset
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.problem import Problem, load_problem
from distill_cli.tasks.runtime import configure_jax, matmul_gflops, peak_memory_mb
from distill_cli.train import loop
from distill_cli.version import __version__


def finished_result(job: Job) -> Result | None:
    """result.json of this very run, if its coreset file is intact; None otherwise."""
    result = agreeing(job.result_file, {"digest": job.digest, "version": __version__})
    if result is None:
        return None
    place = job.coreset_file.relative_to(job.folder).as_posix()
    if not whole(job.folder, {place: parse_result(result).coreset.sha256}):
        return None
    if wrong := run_damage(result):
        warn_of_damage(job, f"{wrong}; it is written again from the last checkpoint")
        return None
    rows = rows_of(result)
    for wrong in filter(None, map(damage, rows)):
        warn_of_damage(job, f"{wrong}; it is measured again")
    return result | {"evaluations": [row for row in rows if not damage(row)]}


def warn_of_damage(job: Job, what: str) -> None:
    """On standard error: the run's log is not open yet."""
    print(f"WARNING: {job.result_file}: damaged, {what}", file=sys.stderr, flush=True)


def write_missing(job: Job) -> None:
    """Write the files of a finished run again that are gone: reports, transform, initial set."""
    folder, kept = job.folder, job.folder / "coreset"
    needed = [kept / "preprocess.npz", *([kept / "initial.npz"] if job.config.ipc else [])]
    if not all(path.is_file() for path in needed):
        configure_jax(job.config.kernel.name, job.config.devices)
        problem = load_problem(job.config)
        save_transform(folder, problem)
        if job.config.ipc:
            save_initial(folder, problem, initial_coreset(problem, job.config.init))
    if not all((folder / name).is_file() for name in report.FILES):
        report.write_all(folder)


def export(
    job: Job,
    problem: Problem,
    outcome: loop.Outcome,
    start: Start,
    seconds: dict[str, float],
) -> Result:
    """Write coreset/ and the first result.json, without evaluations yet."""
    config, best = job.config, outcome.best
    names = problem.dataset.class_names
    ridge = getattr(config.method, "ridge", None)
    weights = start.ridge_weights
    save_coreset(job.coreset_file, best.coreset, names, ridge, weights)
    if config.ipc:  # the whole training split is not written twice
        save_initial(job.folder, problem, start)
    save_transform(job.folder, problem)
    shape = list(best.coreset.images.shape)
    result: Result = {
        "schema": 1, "version": __version__, "digest": job.digest, "command": job.command,
        "method": config.method.name, "dataset": problem.dataset.name, "ipc": config.ipc,
        "seed": config.seed, "labels": config.labels, "loss": config.loss,
        "init": config.init.name, "steps": outcome.step, "best_step": int(best.step),
        "stop_reason": outcome.reason,
        "validation": {
            "loss": finite_or_none(best.loss), "accuracy": finite_or_none(best.accuracy),
            "images": len(problem.valid_rows),
            "disjoint": problem.dataset.valid is not None or config.validation.disjoint,
        },
        "class_names": list(names), "config": as_tree(config), "device": device_name(),
        "arithmetic": arithmetic(config),
        "devices": len(devices.chosen()) * hosts.count(),  # each process gave as many
        "preprocess": dataclasses.asdict(config.preprocess),
        "training": {
            "images": len(problem.dataset.train.labels), "used": len(problem.train_rows),
            "also_tested": problem.also_tested,
            "corrupt": config.dataset.corrupt, "prune": config.prune.keep,
        },
        "initial_rows": None if start.rows is None else [int(row) for row in start.rows],
        "initial_record": start.record, "code": job.code,
        "seconds": {
            **seconds, "distill": round(outcome.seconds, 2), "evaluate": 0.0,
            "total": round(sum(seconds.values()) + outcome.seconds, 2),
        },
        "cpu_seconds": round(outcome.cpu_seconds, 2), "matmul_gflops": matmul_gflops(),
        "peak_memory_mb": peak_memory_mb(),
        "coreset": {
            "path": "coreset/coreset.npz", "sha256": sha256(job.coreset_file), "images": shape,
            "stored_floats": int(np.prod(shape)) + best.coreset.labels.size + 1,
        },
        "environment": environment(),
        "evaluations": [],
    }  # fmt: skip
    write_json(job.result_file, result)
    return result


def save_initial(folder: Path, problem: Problem, start: Start) -> None:
    """Write the set that the run starts from."""
    names, ridge = problem.dataset.class_names, getattr(problem.config.method, "ridge", None)
    place = folder / "coreset" / "initial.npz"
    save_coreset(place, start.coreset, names, ridge, start.ridge_weights)


def save_transform(folder: Path, problem: Problem) -> None:
    """Write the preprocessing, and how pictures were read."""
    config = problem.config.dataset
    problem.preprocess.save(
        folder / "coreset" / "preprocess.npz", image_shape=problem.dataset.image_shape,
        resized=config.image_size is not None, background=config.background,
    )  # fmt: skip


def finite_or_none(value: np.ndarray) -> float | None:
    """A number as JSON has it: null where a method gave no score."""
    return float(value) if np.isfinite(value) else None
