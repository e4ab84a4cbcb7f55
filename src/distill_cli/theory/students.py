"""Students on real points: ridge readouts, transfer to a new network, equal-memory real subsets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.core.keys import named_key
from distill_cli.theory import artefact as artefacts
from distill_cli.theory import data, network, readout
from distill_cli.theory.artefact import Artefact, Student
from distill_cli.theory.config import CellConfig
from distill_cli.theory.data import Affine, Stream, Task
from distill_cli.theory.metrics import leading_directions, relative_error

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # candidates of a real subset
VALIDATION = 4000  # further real points that choose its ridge


class Real(NamedTuple):
    """Real points of a seed: readout (x, y) and test (x, f*)."""

    readout: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def targets(line: Affine, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y - alpha - <beta, x>."""
    return y - np.asarray(line.of(jnp.asarray(x)))


class Fit(NamedTuple):
    """Error of a student with a ridge readout on real points, and that readout."""

    error: float
    a: np.ndarray
    moments: readout.Moments


def fit_on_real(config: CellConfig, file: Artefact, trained: Student, real: Real) -> Fit:
    """Second layer by ridge on the real readout points; error on the test points."""
    x, y = real.readout
    found = readout.moments(trained.features, x, targets(file.affine, x, y))
    a = readout.ridge(found, config.ridge)
    return Fit(error_of(file, trained, a, real), a, found)


def error_of(file: Artefact, trained: Student, a: np.ndarray, real: Real) -> float:
    """Relative error on the test points."""
    x, truth = real.test
    return relative_error(artefacts.predict(file, trained, a, x), truth)


def transfer(
    config: CellConfig, file: Artefact, trained: Student, a: np.ndarray, real: Real, task: Task
) -> dict[str, float]:
    """Errors under a fresh initial network and biases, with the same distilled data.

    mse_new_init: D1 with a ridge readout on real points; _d2: with the labels of D2, which belong
    to the old network, as ordinary data; _span: with M2 points V c, V the leading directions of
    D1, that the old student labels.
    """
    fresh = artefacts.student(file, fresh=True)
    row = {"mse_new_init": fit_on_real(config, file, fresh, real).error}

    def from_labels(x: np.ndarray, y: np.ndarray) -> float:
        found = readout.moments(fresh.features, x, y)
        return error_of(file, fresh, readout.ridge(found, config.ridge), real)

    if "d2_labels" in file.arrays:
        x = artefacts.second_inputs(file, config.labels)
        row["mse_new_init_d2"] = from_labels(x, file.numbers("d2_labels"))
    key = named_key(task.seed, "theory span inputs")
    v = leading_directions(file.d1()[0], config.r)
    c = np.asarray(jax.random.normal(key, (config.labels, v.shape[1]), jnp.float32))
    x = (c @ v.T).astype(np.float32)
    row["mse_new_init_span"] = from_labels(x, readout.predict(trained.features, a, x))
    return row


def real_subset(config: CellConfig, task: Task, count: int, real: Real) -> float:
    """Error of the whole procedure on `count` real points alone: affine part, first step, readout.

    The best of RIDGES is chosen on further real points that are not counted, to its advantage.
    """
    stream = Stream(task, "training", count)
    line = data.affine(stream)
    half, signs = network.initial(named_key(task.seed, "theory network"), config.L, config.d)
    gradient = data.real_gradient(stream, line, half)
    b = network.biases(named_key(task.seed, "theory biases"), config.L, config.bias)
    trained = Student(network.trained_rows(signs, gradient, config.row_norm), b)
    file = artefacts.without_data(config, task.seed, line)
    x, y = data.points(stream)
    found = readout.moments(trained.features, x, targets(line, x, y))
    x, y = data.points(Stream(task, "validation", VALIDATION))
    fits = [readout.ridge(found, lam) for lam in RIDGES]
    scores = [relative_error(artefacts.predict(file, trained, a, x), y) for a in fits]
    return error_of(file, trained, fits[int(np.argmin(scores))], real)
