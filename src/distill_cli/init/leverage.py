"""Ridge leverage of features and labels: how much one image can weigh in kernel ridge regression.

For features Phi (n, p), centred targets Y (n, C) and ridge lam:

    H = K (K + lam I)^-1,  K = Phi Phi',   E = Y - H Y,   S = Y' E
    tau_i = H_ii + E_i S^+ E_i'

tau_i is the largest share that image i can have in sum_j (<w, phi_j> - <c, Y_j>)^2 + lam |w|^2,
over all predictors w and label combinations c: the ridge leverage of the row [phi_i, -Y_i] with no
ridge on the labels. H_ii says how unlike the others an image is, the second term how badly
the regression on all images fits it. sum tau <= d_eff + C, d_eff = tr H. (Formulas ours; the
scheme is that of Tukan, Maalouf, Osadchy, arXiv 2307.08086.)
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import scipy.linalg

from distill_cli.errors import UserError

FLOAT32_LAM = 1e-6  # relative ridge down to which float32 is within 1e-3 of float64
MOST_OF_RANK = 0.9  # the effective dimension can only tend to the rank
log = logging.getLogger(__name__)


class Blocks(Protocol):
    """Rows of a feature matrix that need not fit in memory: init.features.Features, or Matrix."""

    n: int
    p: int

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]: ...


class Matrix:
    """A feature matrix in memory, handed out in blocks of rows."""

    def __init__(self, phi: np.ndarray, block: int = 1024) -> None:
        self.phi, self.block = phi, block
        self.n, self.p = phi.shape

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for at in range(0, self.n, self.block):
            part = slice(at, min(at + self.block, self.n))
            yield part, self.phi[part]


class Leverage(NamedTuple):
    """ridge: H_ii (n,); label: E_i S^+ E_i' (n,); residual: E (n, C); lam: the absolute ridge;
    trace: tr K; effective_dimension: tr H; precision: float32 or float64. All values float64."""

    ridge: np.ndarray
    label: np.ndarray
    residual: np.ndarray
    lam: float
    trace: float
    effective_dimension: float
    precision: str

    @property
    def tau(self) -> np.ndarray:
        """tau_i = H_ii + E_i S^+ E_i', the sensitivity of kernel ridge regression."""
        return self.ridge + self.label

    @property
    def left_out(self) -> np.ndarray:
        """|Y_i - f_-i(x_i)|^2, f_-i fitted without image i: |E_i|^2 / (1 - H_ii)^2."""
        return (self.residual**2).sum(1) / np.maximum(1 - self.ridge, 1e-9) ** 2


def leverage(
    features: Blocks,
    targets: np.ndarray,
    lam: float | None = None,
    effective_dimension: float | None = None,
    dual: bool | None = None,
) -> Leverage:
    """Scores of all n images.

    targets: Y, columns centred per image (one-hot minus 1/C); lam: ridge relative to tr K, or None
    to meet effective_dimension (at most 0.9 of the largest possible); dual: solve in n dimensions
    (None: where n <= p), else in p, reading the features once to accumulate and once to score
    (time n p^2 + p^3, memory p^2).
    """
    if features.n <= features.p if dual is None else dual:
        return _dual(features, targets, lam, effective_dimension)
    if lam is None or lam >= FLOAT32_LAM:
        try:
            return _primal(features, targets, lam, effective_dimension, np.float32)
        except np.linalg.LinAlgError:
            log.warning("ridge leverage: float32 is too coarse for this ridge; using float64")
    else:
        log.info("ridge leverage: ridge below %g of the trace; using float64", FLOAT32_LAM)
    return _primal(features, targets, lam, effective_dimension, np.float64)


def ridge_of(
    eigenvalues: np.ndarray, lam: float | None, effective_dimension: float | None
) -> float:
    """The absolute ridge: lam tr K, or the root of sum e / (e + ridge) = effective_dimension."""
    eigenvalues = np.maximum(np.asarray(eigenvalues, np.float64), 0)
    trace = eigenvalues.sum()
    if not trace > 0:
        return 1.0  # no features: every score is that of the labels alone
    if lam is not None:
        return lam * trace
    rank = (eigenvalues > 1e-7 * eigenvalues.max()).sum()
    target = effective_dimension or rank
    if target > MOST_OF_RANK * rank:
        log.info("effective dimension %g is beyond the features' rank %d", target, rank)
        target = MOST_OF_RANK * rank
    low, high = np.log(trace) - 60, np.log(trace) + 60
    for _ in range(100):
        middle = (low + high) / 2
        above = (eigenvalues / (eigenvalues + np.exp(middle))).sum() > target
        low, high = (middle, high) if above else (low, middle)
    return float(np.exp((low + high) / 2))


def _dual(
    features: Blocks, targets: np.ndarray, lam: float | None, effective_dimension: float | None
) -> Leverage:
    phi = np.concatenate([block for _, block in features.blocks()]).astype(np.float64)
    gram = phi @ phi.T
    values, vectors = scipy.linalg.eigh(gram)
    ridge = ridge_of(values, lam, effective_dimension)
    shrink = np.maximum(values, 0) / (np.maximum(values, 0) + ridge)
    hat = (vectors**2) @ shrink
    residual = targets - vectors @ (shrink[:, None] * (vectors.T @ targets))
    label = _label_term(residual, targets.T @ residual)
    trace = float(np.trace(gram))
    return Leverage(hat, label, residual, ridge, trace, float(hat.sum()), "float64")


def _primal(
    features: Blocks,
    targets: np.ndarray,
    lam: float | None,
    effective_dimension: float | None,
    dtype: type,
) -> Leverage:
    n, p = features.n, features.p
    moment, cross = np.zeros((p, p), np.float64), np.zeros((p, targets.shape[1]))
    for rows, block in features.blocks():
        phi = block.astype(dtype)
        moment += phi.T @ phi
        cross += phi.T.astype(np.float64) @ targets[rows]
    trace = float(np.trace(moment))
    if lam is not None:
        ridge = lam * trace if trace > 0 else 1.0
    else:
        values = scipy.linalg.eigvalsh(moment.astype(dtype))
        ridge = ridge_of(values, None, effective_dimension)
        if dtype is np.float32 and ridge < FLOAT32_LAM * trace:
            raise np.linalg.LinAlgError("ridge too small for float32")
    moment[np.diag_indices(p)] += ridge
    try:
        factor = scipy.linalg.cholesky(moment.astype(dtype), lower=True, overwrite_a=True)
    except np.linalg.LinAlgError:
        if dtype is np.float64:
            raise UserError(f"init.lam={lam}: too small for these features; raise it") from None
        raise
    weights = scipy.linalg.cho_solve((factor.astype(np.float64), True), cross)
    hat, residual = np.empty(n), np.empty(targets.shape)
    for rows, block in features.blocks():
        solved = scipy.linalg.solve_triangular(factor, block.T.astype(dtype), lower=True)
        hat[rows] = (solved.astype(np.float64) ** 2).sum(0)
        residual[rows] = targets[rows] - block.astype(np.float64) @ weights
    if dtype is np.float32 and not hat.max() <= 1 + 1e-2:
        raise np.linalg.LinAlgError("leverage above 1 in float32")
    label = _label_term(residual, targets.T @ residual)
    return Leverage(hat, label, residual, ridge, trace, float(hat.sum()), dtype.__name__)


def _label_term(residual: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """E_i S^+ E_i' for S = Y' E, which has rank C - 1 because targets sum to 0."""
    inverse = np.linalg.pinv((moment + moment.T) / 2, rcond=1e-9, hermitian=True)
    return np.maximum(((residual @ inverse) * residual).sum(1), 0)
