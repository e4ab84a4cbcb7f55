"""How well distilled inputs align with the true subspace, and the error of a predictor."""

import numpy as np


def leading_directions(x: np.ndarray, r: int) -> np.ndarray:
    """Top-r right singular vectors of X (m, d) as columns (d, min(r, m)), float64."""
    return np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)[2][:r].T


def overlap(x: np.ndarray, theta: np.ndarray) -> float:
    """|V' Theta|_F^2 / r, V the top-r right singular vectors of X; 1 where they span the truth."""
    v = leading_directions(x, theta.shape[1])
    return float(np.sum((v.T @ np.asarray(theta, np.float64)) ** 2) / theta.shape[1])


def energy(x: np.ndarray, theta: np.ndarray) -> float:
    """|X Theta|_F^2 / |X|_F^2; random inputs give r/d."""
    x = np.asarray(x, np.float64)
    return float(np.sum((x @ np.asarray(theta, np.float64)) ** 2) / max(np.sum(x**2), 1e-300))


def relative_error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """mean (f - f*)^2 / Var f*; 1.0 is what predicting the mean gives."""
    truth = np.asarray(truth, np.float64)
    return float(np.mean((np.asarray(predicted, np.float64) - truth) ** 2) / truth.var())


def coordinates(x: np.ndarray, theta: np.ndarray) -> dict[str, list]:
    """Points in the basis of the true subspace: coordinates inside (M, r), norms outside (M,)."""
    x, theta = np.asarray(x, np.float64), np.asarray(theta, np.float64)
    inside = x @ theta
    outside = np.linalg.norm(x - inside @ theta.T, axis=1)
    return {"inside": inside.tolist(), "outside": outside.tolist()}
