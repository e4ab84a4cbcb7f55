"""What the processes of one run settle with each other around the training loop."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_cli.core import hosts
from distill_cli.core.fingerprint import digest_of
from distill_cli.core.types import Coreset
from distill_cli.errors import RunStopped
from distill_cli.tasks.problem import Problem
from distill_cli.train.signals import StopRequest, stop_requests

if TYPE_CHECKING:
    from distill_cli.tasks.job import Job

# Where things lie may differ from host to host.
OWN = ("out", "progress", "dataset.data_dir", "dataset.cache", "dataset.path")


def together(job: "Job", left: str) -> "tuple[Job, str]":
    """The job as this process does it, and what process 0 says is left of it: all, evaluation or
    nothing.

    Every process must have the same settings, else UserError. The folder is that of process 0;
    the others say nothing.
    """
    if hosts.count() == 1:
        return job, left
    tree = json.loads(json.dumps(dataclasses.asdict(job.config), default=str))
    settings = dict(flat(tree, ""))
    hosts.compare("settings", {k: v for k, v in settings.items() if k not in OWN})
    hosts.compare("settings", {"digest": job.digest, "code": digest_of(job.code)})
    told = hosts.told({"folder": str(job.folder), "left": left})
    config = job.config
    if not hosts.first():
        config = dataclasses.replace(config, progress="none")
    return dataclasses.replace(job, config=config, folder=Path(told["folder"])), told["left"]


def flat(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested dicts."""
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from flat(value, f"{prefix}.{key}" if prefix else str(key))


def same_data(problem: Problem, start: Coreset) -> None:
    """UserError unless all processes have the same data, down to the bits after preprocessing:
    processors of different kinds may round differently, and each process computes with its own."""
    if hosts.count() == 1:
        return
    raw, images = problem.dataset.train.images, problem.train_images
    hosts.compare(
        "data",
        {
            "dataset": problem.dataset.fingerprint,
            "training rows": digest(problem.train_rows),
            "validation rows": digest(problem.valid_rows),
            "the preprocessed training images": digest(raw if images is None else images),
            "the starting set": digest(*start),
        },
    )


def digest(*arrays: Any) -> str:
    """Over types, shapes and bytes."""
    found = hashlib.blake2b(digest_size=8)
    for array in map(np.ascontiguousarray, arrays):
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(array.data if array.size else b"")
    return found.hexdigest()


def until_first_is_done(job: "Job", stop: StopRequest | None = None) -> dict[str, Any]:
    """Wait while process 0 evaluates: it holds the service that its devices meet through.

    Raises RunStopped after a signal, which ends process 0 too: every finished protocol is in
    result.json.
    """
    if stop is None:
        with stop_requests() as stop:
            return until_first_is_done(job, stop)
    hosts.wait_for(hosts.DONE, lambda: raise_if_stopped(stop))
    return {"folder": str(job.folder)}


def raise_if_stopped(stop: StopRequest) -> None:
    """As process 0 does between two parts of an evaluation."""
    if stop:
        raise RunStopped(
            "stopped while process 0 was evaluating; the coreset is saved, the same command goes "
            "on with the evaluation",
            stop.exit_code,
        )
