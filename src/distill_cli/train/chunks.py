"""Chunks of steps: several steps in one jitted scan, between two looks at signals and the clock.

Where a chunk begins and ends depends on the configuration and the backend alone, so that a resumed
run makes the same ones.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.config import Config
from distill_cli.core.keys import named_key, step_key
from distill_cli.errors import RunStopped
from distill_cli.methods.base import Distiller
from distill_cli.train.batches import TrainingSet
from distill_cli.train.growth import Part
from distill_cli.train.samplers.base import Sampler, make_sampler

CHUNK_FLOPS = {"cpu": 3e11, "gpu": 3e13}  # a second or so between looks at signals and clock
CHUNK_BYTES = 3e12  # the same where an accelerator's memory sets the pace: an H100 moves 3e12 B/s


def chunk_length(every: int, flops: float, backend: str, moved: float = 0.0) -> int:
    """Steps in one jitted scan: a divisor of `every`, at most 10, fewer where steps are large.

    every: steps between two stops for validation or for the sampler; moved: bytes that a step moves
    through an accelerator's memory, where that and not its arithmetic takes the time.

    A function of the configuration and the backend only, never of measured time.
    """
    steps = CHUNK_FLOPS.get(backend, CHUNK_FLOPS["gpu"]) / max(flops, 1.0)
    if backend != "cpu":
        steps = min(steps, CHUNK_BYTES / max(moved, 1.0))
    budget = max(1, int(steps))
    return max(size for size in range(1, min(every, 10, budget) + 1) if every % size == 0)


def make_chunk(
    distiller: Distiller, sampler: Sampler, config: Config
) -> Callable[..., tuple[Any, Any]]:
    """jit(scan) over `length` steps from `start`; returns the state and the steps' info."""
    batch_root = named_key(config.seed, "batch")
    step_root = named_key(config.seed, "step")

    @partial(jax.jit, static_argnames="length", donate_argnames="state")
    def chunk(
        state: Any, sampling: Any, train: TrainingSet, start: Any, *, length: int
    ) -> tuple[Any, Any]:
        def body(state: Any, step: Any) -> tuple[Any, Any]:
            key = step_key(batch_root, step)
            batch = sampler.draw(sampling, train, state, key)
            state, info = distiller.step(state, batch, step_key(step_root, step))
            # The loss alone would not show it: on CPUs XLA's ReLU turns NaN into 0.
            parts = [*jax.tree.leaves(distiller.coreset(state)), info["loss"]]
            healthy = jnp.stack([jnp.all(jnp.isfinite(part)) for part in parts]).all()
            return state, (info, healthy)

        return jax.lax.scan(body, state, start + jnp.arange(length, dtype=jnp.uint32))

    return chunk


class Program(NamedTuple):
    """How the steps of one part of a run are made: its sampler, its jitted chunk, and the chunk's
    length."""

    sampler: Sampler
    chunk: Callable[..., tuple[Any, Any]]
    length: int

    @classmethod
    def of(cls, part: Part, images: int, coreset: int) -> "Program":
        """The program of a part, for a training set and a coreset of so many images."""
        distiller, config = part.distiller, part.config
        batch = min(config.batch.size, images) * config.batch.number
        sampler = make_sampler(config, distiller)
        moved = getattr(distiller, "bytes_moved", lambda batch, coreset: 0.0)(batch, coreset)
        stops = math.gcd(config.validation.every, sampler.refresh)
        flops = distiller.flops(batch, coreset)
        length = chunk_length(stops, flops, jax.default_backend(), moved)
        return cls(sampler, make_chunk(distiller, sampler, config), length)


def steps_until_stop(step: int, length: int, config: Config) -> int:
    """Steps of the chunk that begins at `step`: to the next multiple of length, snapshot, part of
    the run, or end.

    A function of the configuration and the step only, so that a resumed run cuts alike.
    """
    stops = (*config.snapshots, *config.growth.starts(config.steps))
    ahead = [at for at in stops if at > step]
    return min(step - step % length + length, config.steps, *ahead) - step


def raise_if_not_finite(loss: np.ndarray, healthy: np.ndarray, start: int, saved_step: int) -> None:
    """Stop the run at the first step whose loss or coreset is NaN or infinite."""
    bad = np.flatnonzero(~healthy)
    if bad.size:
        what = f"loss is {loss[bad[0]]}"
        if np.isfinite(loss[bad[0]]):
            what = "the coreset has values that are NaN or infinite"
        kept = f"the checkpoint of step {saved_step} is kept" if saved_step >= 0 else ""
        raise RunStopped(
            f"{what} at step {start + bad[0]}; {kept or 'nothing was saved yet'}. "
            "Lower method.learning_rates or raise method.ridge",
            1,
        )
