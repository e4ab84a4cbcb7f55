"""One cell of the study: real gradients, distillation, students, errors, for all of its seeds.

What several cells share (real gradients, teacher, distilled inputs, test points) is kept in a
small memory, so that a study that varies M1, M2 or precision pays for it once.
"""

import dataclasses
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.core.keys import named_key
from distill_cli.theory import artefact as artefacts
from distill_cli.theory import data, distillation, network, readout
from distill_cli.theory.artefact import Artefact, Student
from distill_cli.theory.config import CellConfig
from distill_cli.theory.data import Affine, Stream, Task
from distill_cli.theory.links import resolve
from distill_cli.theory.metrics import energy, leading_directions, overlap, relative_error
from distill_cli.theory.students import Real, error_of, fit_on_real, real_subset, transfer

Row = dict[str, Any]
VMAP_BYTES = 2**30  # seeds are distilled together as far as this goes
log = logging.getLogger(__name__)


class Pool(NamedTuple):
    """Random rows and their real gradients, seed by seed, and the affine parts."""

    rows: jax.Array  # (seed, P, d)
    gradients: jax.Array  # (seed, P, d)
    lines: list[Affine]


class Cell(NamedTuple):
    """What a cell gave: one row and one artefact per seed."""

    rows: list[Row]
    artefacts: list[Artefact]


class Memory:
    """The last few things made, by key."""

    def __init__(self, size: int = 8) -> None:
        self.size, self.kept = size, OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The thing of that key, made where it is not there."""
        if key not in self.kept:
            self.kept[key] = make()
        self.kept.move_to_end(key)
        while len(self.kept) > self.size:
            self.kept.popitem(last=False)
        return self.kept[key]


def run_cell(config: CellConfig, memory: Memory | None = None) -> Cell:
    """All measurements of a cell."""
    memory = memory or Memory()
    pool = real_pool(config, memory)
    inputs, labels = distilled(config, pool, memory)
    rows, files = [], []
    for index, seed in enumerate(config.seed):
        begun = time.monotonic()
        task = task_of(config, seed)
        x = edited(config, inputs[index], np.asarray(task.theta))
        file = artefacts.pack(config, seed, x, labels[index], pool.lines[index])
        base = teacher(config, task, pool.lines[index], memory)
        row, file = measured(config, task, file, memory)
        rows.append(base | row | {"seconds": round(time.monotonic() - begun, 2)})
        files.append(file)
    return Cell(rows, files)


def task_of(config: CellConfig, seed: int) -> Task:
    """The target of a seed."""
    return data.make_task(seed, resolve(config.link, config.r), config.noise, config.d)


def task_key(config: CellConfig) -> tuple[Any, ...]:
    """What decides the real data."""
    return config.d, config.r, config.link, config.noise, config.n, config.seed


def real_pool(config: CellConfig, memory: Memory) -> Pool:
    """Real gradients of the pool's rows on the n points, minus the affine part."""

    def make() -> Pool:
        rows, gradients, lines = [], [], []
        for seed in config.seed:
            stream = Stream(task_of(config, seed), "training", config.n)
            rows.append(network.unit_rows(named_key(seed, "theory pool"), config.pool, config.d))
            lines.append(data.affine(stream))
            shuffled = config.control == "shuffled"
            gradients.append(data.real_gradient(stream, lines[-1], rows[-1], shuffled))
        return Pool(jnp.stack(rows), jnp.stack(gradients), lines)

    key = ("pool", *task_key(config), config.pool, config.control == "shuffled")
    return memory.get(key, make)


def distillation_settings(config: CellConfig) -> CellConfig:
    """The cell with everything at its default that does not touch the distillation of D1, so that
    one compilation serves every link, r, n, L and seed."""
    default = CellConfig(r=1)
    used = ("d", "m1", "variant", "pairs", "pool", "batch", "steps", "learning_rate",
            "start", "label_start")  # fmt: skip
    kept = {key: getattr(config, key) for key in used}
    control = config.control if config.control == "undistilled" else "none"
    return dataclasses.replace(default, **kept, control=control)


@partial(jax.jit, static_argnames=("config", "together"))
def distil_seeds(config, together, rows, gradients, keys):
    """D1 of every seed, `together` of them vmapped at a time."""

    def one(args):
        return distillation.distil(config, *args)

    return jax.lax.map(one, (rows, gradients, keys), batch_size=together)


def distilled(
    config: CellConfig, pool: Pool, memory: Memory
) -> tuple[np.ndarray, np.ndarray]:  # (seed, M1, d), (seed, M1)
    """D1 of every seed before any editing."""
    settings = distillation_settings(config)

    def make() -> tuple[np.ndarray, np.ndarray]:
        keys = jnp.stack([named_key(seed, "theory distillation") for seed in config.seed])
        each = 16 * config.pool * (config.d + config.m1)
        together = max(1, min(len(config.seed), VMAP_BYTES // each))
        found = distil_seeds(settings, together, pool.rows, pool.gradients, keys)
        return np.asarray(found.inputs), np.asarray(found.labels)

    shuffled = config.control == "shuffled"
    return memory.get(("d1", *task_key(config), settings, shuffled), make)


def edited(config: CellConfig, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """D1's inputs under the controls that edit them."""
    if config.control == "removed":
        return x - x @ theta @ theta.T
    if config.control == "projected":
        v = leading_directions(x, config.r)
        return (x @ v @ v.T).astype(np.float32)
    return x


def real_points(config: CellConfig, task: Task, memory: Memory) -> Real:
    """Readout points, which are not among the n of the gradient, and noiseless test points."""

    def make() -> Real:
        clean = task._replace(noise=0.0)
        return Real(
            data.points(Stream(task, "readout", config.readout)),
            data.points(Stream(clean, "test", config.test)),
        )

    key = ("points", task.seed, config.d, config.r, config.link, config.noise)
    return memory.get((*key, config.readout, config.test), make)


def teacher(config: CellConfig, task: Task, line: Affine, memory: Memory) -> Row:
    """Errors without any distillation: the real-data first step, the initial first layer (lazy),
    and the affine part alone."""

    def make() -> Row:
        real = real_points(config, task, memory)
        seed, width = task.seed, config.L
        half, signs = network.initial(named_key(seed, "theory network"), width, config.d)
        b = network.biases(named_key(seed, "theory biases"), width, config.bias)
        stream = Stream(task, "training", config.n)
        gradient = data.real_gradient(stream, line, half)
        file = artefacts.without_data(config, seed, line)
        trained = Student(network.trained_rows(signs, gradient, config.row_norm), b)
        lazy = Student(jnp.concatenate([half, half]), b)
        x, truth = real.test
        return {
            "mse_teacher": fit_on_real(config, file, trained, real).error,
            "mse_lazy": fit_on_real(config, file, lazy, real).error,
            "mse_linear": relative_error(np.asarray(line.of(jnp.asarray(x))), truth),
        }

    keys = (config.L, config.bias, config.row_norm, config.ridge, config.readout, config.test)
    return memory.get(("teacher", *task_key(config), task.seed, keys), make)


def measured(
    config: CellConfig, task: Task, file: Artefact, memory: Memory
) -> tuple[Row, Artefact]:
    """The row of one seed, and its artefact with the labels of D2 where they are asked for."""
    real = real_points(config, task, memory)
    trained = artefacts.student(file)
    fit = fit_on_real(config, file, trained, real)
    theta, inputs = np.asarray(task.theta), file.d1()[0]
    row: Row = {
        "d": config.d, "r": config.r, "L": config.L, "link": config.link,
        "variant": config.variant, "n": config.n, "m1": config.m1, "seed": task.seed,
        "energy": energy(inputs, theta), "overlap": overlap(inputs, theta),
        "mse_d1_ridge": fit.error,
    }  # fmt: skip
    if "d2" in config.measure:
        phi = artefacts.second_features(file, trained, config.labels)
        student = readout.student_map(phi, config.lam2, config.readout_steps)
        labels = readout.distilled_labels(
            student, fit.moments, config.ridge, phi @ fit.a, config.pull
        )
        file = artefacts.with_labels(file, labels, config.precision_labels)
        a = artefacts.second_layer(file, trained)
        row |= {"m2": config.labels, "mse_d1_d2": error_of(file, trained, a, real)}
        row["label_rms"] = float(np.sqrt(np.mean(labels**2)))
    if "new_init" in config.measure:
        row |= transfer(config, file, trained, fit.a, real, task)
    counts = {f"floats_{part}": file.floats(part) for part in artefacts.NUMBERS}
    row |= counts | {"floats": sum(counts.values()), "bytes": file.bytes}
    if "equal_memory" in config.measure:
        row["subset"] = config.subset or max(2, row["floats"] // (config.d + 1))
        row["mse_equal_memory_real"] = real_subset(config, task, row["subset"], real)
    return row, file
