"""The distillation loop: jitted chunks of steps, host work only between them.

Every `validation.every` steps, before the step is made, the coreset is scored on validation images;
the best one is kept (strictly smaller loss), and the run stops `patience` steps after the best
(RFAD section 4). Randomness of a step depends on (seed, name, step) alone and chunks always begin
at the same steps, so a resumed run ends bit for bit as an uninterrupted one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.config import Config
from distill_cli.core import devices
from distill_cli.core.keys import named_key, step_key
from distill_cli.core.types import Coreset
from distill_cli.errors import RunStopped
from distill_cli.train.batches import TrainingSet
from distill_cli.train.checkpoint import Checkpoints
from distill_cli.train.chunks import Program, raise_if_not_finite, steps_until_stop
from distill_cli.train.clock import Clock
from distill_cli.train.growth import Part, part_at
from distill_cli.train.progress import Progress
from distill_cli.train.signals import StopRequest
from distill_cli.train.step_check import check_step
from distill_cli.train.tracking import Tracker


class Best(NamedTuple):
    """The coreset with the smallest validation loss so far, on the host."""

    coreset: Coreset
    step: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


class Progressed(NamedTuple):
    """What is checkpointed: the method's state, the best coreset, seconds spent, whether done, the
    sampler's state (last, so that it adds nothing where there is none)."""

    state: Any
    best: Best
    seconds: np.ndarray
    finished: np.ndarray
    sampling: Any


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the best coreset and where, the last step, why it stopped, and what it
    spent."""

    best: Best
    step: int
    reason: str
    seconds: float
    cpu_seconds: float


def run(
    config: Config,
    parts: Sequence[Part],
    initial: Coreset,
    train: TrainingSet,
    valid: tuple[np.ndarray, np.ndarray],
    checkpoints: Checkpoints,
    open_tracker: Callable[[int | None], Tracker],
    progress: Progress,
    stop: StopRequest,
    snapshot: Callable[[int, Coreset], None] = lambda step, coreset: None,
) -> Outcome:
    """Distil from `initial`, or from the newest checkpoint, to the end.

    parts: one, or several where the run grows (growth.py), of which the last validates; valid:
    (images, labels) that score the coreset; snapshot(step, coreset) is called at config.snapshots.
    Raises RunStopped after a signal (state saved) and on a loss that is not finite.
    """
    spent = Clock()
    device = jax.tree.map(lambda x: jnp.array(x, copy=True), initial)
    distiller, images = parts[-1].distiller, train.labels.shape[0]
    programs = [Program.of(part, images, initial.labels.shape[0]) for part in parts]
    state = distiller.init(named_key(config.seed, "method"), device)
    untried = np.asarray(np.inf)
    best = Best(to_host(distiller.coreset(state)), np.asarray(0), untried, np.asarray(0.0))
    start = 0
    sampling = programs[-1].sampler.init(train)
    saved = checkpoints.restore(
        Progressed(state, best, np.asarray(0.0), np.asarray(False), sampling)
    )
    if saved is not None:
        start, (state, best, seconds, finished, sampling) = saved
        cpu_seconds = checkpoints.notes.get("cpu_seconds", 0.0)
        if finished:
            reason = stop_reason(config, start, best)
            return Outcome(best, start, reason, float(seconds), cpu_seconds)
        spent.go_on(float(seconds), cpu_seconds)
        state, sampling = jax.tree.map(jnp.asarray, (state, sampling))
        progress.message(f"resuming at step {start}")
    # Where the training set is, or the second chunk would be compiled anew.
    state, sampling = devices.on_all((state, sampling))
    if start < config.steps:
        at = part_at(parts, start)
        check_step(config, parts[at].distiller, programs[at], state, sampling, train, start)
    validate = distiller.validator(
        named_key(config.seed, "validation"),
        jnp.asarray(valid[0]),
        jnp.asarray(valid[1], jnp.int32),
    )
    tracker = open_tracker(None if saved is None else start)
    every = config.validation.every
    refresh_root = named_key(config.seed, "sampler")
    last_save, step, saved_step = time.monotonic(), start, start if saved else -1
    means: dict[str, Any] = {}  # of the chunk just made

    def save(finished: bool = False) -> None:
        nonlocal last_save, saved_step
        seconds = np.asarray(spent.seconds)
        tree = Progressed(state, best, seconds, np.asarray(finished), sampling)
        checkpoints.save(step, tree, cpu_seconds=spent.cpu_seconds)
        last_save, saved_step = time.monotonic(), step
        stop.unsaved = False

    try:
        while True:
            if step in config.snapshots:
                snapshot(step, to_host(distiller.coreset(state)))
            due = step % every == 0 or step == config.steps
            if due:
                coreset = distiller.coreset(state)
                scores = {key: float(value) for key, value in validate(coreset).items()}
                if scores["valid_loss"] < best.loss or config.validation.keep == "last":
                    now = (np.asarray(step), scores["valid_loss"], scores["valid_accuracy"])
                    best = Best(to_host(coreset), now[0], *map(np.asarray, now[1:]))
                tracker.log(step, **scores, **spent.read())
                progress.validated(step, scores, int(best.step))
            if means:  # after the validation of the same step, so that one line shows both
                progress.stepped(step, means)
            if due and stop_reason(config, step, best):
                break
            late = due and time.monotonic() - last_save >= config.checkpoint.seconds
            late = stop.agree(late, b"".join(map(bytes, (np.uint32(step), *best[1:]))))
            if stop:
                save()
                raise RunStopped(
                    f"stopped by {stop.signal and stop.signal.name} at step {step}; state saved, "
                    "the same command goes on from here",
                    stop.exit_code,
                )
            if late:
                save()
            sampler, chunk, length = programs[part_at(parts, step)]
            steps = steps_until_stop(step, length, config)
            if sampler.refresh and step % sampler.refresh == 0:
                clock, key = time.monotonic(), step_key(refresh_root, step)
                sampling, scores = sampler.update(sampling, train, state, key)
                tracker.log(step, **scores, sampler_seconds=time.monotonic() - clock)
            clock = time.monotonic()
            state, (infos, healthy) = chunk(state, sampling, train, np.uint32(step), length=steps)
            values = {key: np.asarray(value) for key, value in infos.items()}
            raise_if_not_finite(values["loss"], np.asarray(healthy), step, saved_step)
            step += steps
            stop.unsaved = True
            rate = steps / (time.monotonic() - clock)
            means = {key: value.mean() for key, value in values.items()}
            tracker.log(step - 1, **means, **spent.read(), steps_per_second=rate)
        if config.steps:  # else there is nothing to go on with, and result.json says all
            save(finished=True)
        reason = stop_reason(config, step, best)
        return Outcome(best, step, reason, spent.seconds, spent.cpu_seconds)
    finally:
        tracker.close()


def stop_reason(config: Config, step: int, best: Best) -> str:
    """Why the loop ends at this step, or the empty string."""
    if step >= config.steps:
        return f"step limit {config.steps}"
    if step > int(best.step) + config.validation.patience:
        return f"no better validation loss since step {int(best.step)}"
    return ""


def to_host(coreset: Coreset) -> Coreset:
    """The coreset as NumPy arrays of its own (the device buffer is about to be donated)."""
    return Coreset(*(np.array(part) for part in coreset))
