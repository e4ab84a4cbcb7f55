"""The second layer: ridge readouts on real data and distilled labels. NumPy, float64 throughout.

Gram matrices of relu features on a subspace of few dimensions are numerically singular in float32.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg

CHUNK = 2048  # points whose features are in memory at once

Features = Callable[[np.ndarray], np.ndarray]


class Moments(NamedTuple):
    """Phi'Phi/n (L, L) and Phi'y/n (L,) of n points."""

    gram: np.ndarray
    cross: np.ndarray


def moments(features: Features, x: np.ndarray, y: np.ndarray) -> Moments:
    """Accumulated over chunks of points."""
    gram, cross = np.zeros(()), np.zeros(())
    for phi, part in chunks(features, x, y):
        gram = gram + phi.T @ phi
        cross = cross + phi.T @ part
    return Moments(gram / len(x), cross / len(x))


def chunks(
    features: Features, x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(features, targets) of CHUNK points at a time, float64."""
    for at in range(0, len(x), CHUNK):
        part = np.asarray(y[at : at + CHUNK], np.float64)
        yield np.asarray(features(x[at : at + CHUNK]), np.float64), part


def predict(features: Features, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Phi(x) a."""
    return np.concatenate([phi @ a for phi, _ in chunks(features, x, np.zeros(len(x)))])


def ridge(found: Moments, lam: float) -> np.ndarray:
    """(Phi'Phi/n + lam I)^-1 Phi'y/n."""
    return solve(found.gram + lam * np.eye(len(found.gram)), found.cross)


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution with a symmetric positive (semi-)definite matrix; least squares where Cholesky finds
    it not positive."""
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix, lower=True), right)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, right, rcond=None)[0]


def student_map(phi: np.ndarray, lam2: float, steps: int | None) -> np.ndarray:
    """R (L, M2): the student's readout is R y for labels y of its M2 inputs, features phi (M2, L).

    steps None: (phi'phi/M2 + lam2 I)^-1 phi'/M2. Else `steps` of gradient descent from 0 at rate
    1/s_max: U diag((1-(1-eta s)^T)/s) U' phi'/M2 with s, U the eigenpairs of phi'phi/M2.
    """
    gram = phi.T @ phi / len(phi)
    if steps is None:
        return solve(gram + lam2 * np.eye(len(gram)), phi.T / len(phi))
    s, u = np.linalg.eigh(gram)
    s = np.maximum(s, 0.0)
    # -expm1(T log1p(-x)) / s keeps its digits for tiny s, where it tends to T eta.
    x = np.minimum(s / s[-1], 1 - 1e-15)
    gain = np.where(
        x > 1e-14, -np.expm1(steps * np.log1p(-x)) / np.maximum(s, 1e-300), steps / s[-1]
    )
    return (u * gain) @ (u.T @ phi.T) / len(phi)


def distilled_labels(
    student: np.ndarray,
    real: Moments,
    lam: float,
    values: np.ndarray | float = 0.0,
    pull: float = 0.0,
) -> np.ndarray:
    """y2 (M2,) that minimise |Phi R y2 - y|^2/n + lam |R y2|^2: performance matching, solved.

    Normal matrix N = R'QR, right side R'c, Q = Phi'Phi/n + lam I, c = Phi'y/n. N is singular for
    features on few directions; pull |y2 - values|^2 tr(N)/M2 in addition chooses among solutions
    the one nearest to `values` (M2,), what the real readout says at D2's inputs. Labels that are
    nearly the target there also serve as data for another network.
    """
    q = real.gram + lam * np.eye(len(real.gram))
    normal = student.T @ q @ student
    weight = pull * np.trace(normal) / len(normal)
    normal[np.diag_indices_from(normal)] += weight
    return solve(normal, student.T @ real.cross + weight * values)
