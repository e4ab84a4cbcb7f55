"""Which coreset images decide a prediction: exact shares of kernel ridge regression, in float64.

With R = K_ss + reg trace(K_ss)/n I, A = R^-1 and alpha(x) = K_xs A the regression of RFAD, KIP is

    f(x) = alpha(x) y_s

so that element i contributes alpha_i(x) y_ic to the output of class c, and the contributions add up
to the output. Without element i (all others refitted, R kept) the output is lower by

    f(x) - f_-i(x) = alpha_i(x) (A y_s)_i / A_ii

which includes what the others take over (Rasmussen & Williams 2006, section 5.4.2, for x outside
the training set). The two rank elements differently. RFAD (arXiv 2210.12067) explains predictions
by the chain test image, coreset images, training images.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from distill_cli.errors import UserError


class Solution(NamedTuple):
    """inverse: A (n, n); targets: y_s (n, class); dual: A y_s (n, class); all float64."""

    inverse: Float[np.ndarray, "n n"]
    targets: Float[np.ndarray, "n class"]
    dual: Float[np.ndarray, "n class"]


def solve(
    k_ss: Float[np.ndarray, "n n"], targets: Float[np.ndarray, "n class"], reg: float
) -> Solution:
    """The regression on the coreset; reg is relative to trace(K_ss)/n.

    Raises UserError where R is singular.
    """
    k_ss, targets = np.asarray(k_ss, np.float64), np.asarray(targets, np.float64)
    n = len(k_ss)
    r = k_ss + reg * np.trace(k_ss) / n * np.eye(n)
    try:
        inverse = np.linalg.inv(r)
    except np.linalg.LinAlgError as error:
        raise UserError(f"apply.ridge={reg}: K_ss cannot be inverted at this ridge") from error
    return Solution(inverse, targets, inverse @ targets)


def weights(k_xs: Float[np.ndarray, "m n"], solution: Solution) -> Float[np.ndarray, "m n"]:
    """alpha(x), one weight for each coreset element."""
    return np.asarray(k_xs, np.float64) @ solution.inverse


def contributions(
    alpha: Float[np.ndarray, "m n"], solution: Solution, classes: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "m n"]:
    """alpha_i(x) y_ic for one class c of each image; the sum over i is the output f_c(x)."""
    return alpha * solution.targets[:, classes].T


def leave_one_out_effects(
    alpha: Float[np.ndarray, "m n"], solution: Solution, classes: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "m n"]:
    """f_c(x) - f_c(x) without element i, for one class c of each image."""
    share = solution.dual / np.diag(solution.inverse)[:, None]
    return alpha * share[:, classes].T


def runner_up(outputs: Float[np.ndarray, "m class"]) -> Int[np.ndarray, " m"]:
    """The class with the second largest output."""
    return np.argsort(-outputs, axis=1, kind="stable")[:, 1]


def ranks(values: Float[np.ndarray, "m n"]) -> Int[np.ndarray, "m n"]:
    """Place of every element in the order of falling values, 1 for the largest."""
    order = np.argsort(-values, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(1, values.shape[1] + 1)[None], axis=1)
    return places


def spearman(a: Float[np.ndarray, "m n"], b: Float[np.ndarray, "m n"]) -> float | None:
    """Mean over rows of Spearman's rank correlation; rows of ties only are left out."""
    from scipy.stats import rankdata

    ra, rb = (rankdata(values, axis=1) for values in (a, b))
    ra, rb = (r - r.mean(1, keepdims=True) for r in (ra, rb))
    scale = np.sqrt((ra**2).sum(1) * (rb**2).sum(1))
    used = scale > 0
    if not used.any():
        return None
    return float(((ra * rb).sum(1)[used] / scale[used]).mean())


class ElementSummary(NamedTuple):
    """For each coreset element, (n,): mean absolute contribution to the predicted class; share of
    images for which it is the largest one; share of these predicted correctly (NaN where none);
    share of training images of which it contributes most to the true class."""

    mean_absolute: Float[np.ndarray, " n"]
    top_share: Float[np.ndarray, " n"]
    top_correct: Float[np.ndarray, " n"]
    served: Float[np.ndarray, " n"]


def summarise(
    to_predicted: Float[np.ndarray, "m n"],
    correct: np.ndarray,
    train_to_true: Float[np.ndarray, "t n"],
) -> ElementSummary:
    """Over the test images, and over training images for `served`."""
    n = to_predicted.shape[1]
    top = to_predicted.argmax(1)
    counts = np.bincount(top, minlength=n)
    right = np.bincount(top, weights=correct.astype(float), minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        top_correct = np.where(counts > 0, right / counts, np.nan)
    served = np.bincount(train_to_true.argmax(1), minlength=n) / len(train_to_true)
    return ElementSummary(np.abs(to_predicted).mean(0), counts / len(top), top_correct, served)


def nearest_by_kernel(
    k_ts: Float[np.ndarray, "t n"],
    diagonal_t: Float[np.ndarray, " t"],
    diagonal_s: Float[np.ndarray, " n"],
    count: int,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """(rows, cosines) of the training images most similar to each element.

    cosine = K(t, s) / sqrt(K(t, t) K(s, s)), as kernels grow with the norm of an image.
    """
    cosine = np.asarray(k_ts, np.float64) / np.sqrt(np.outer(diagonal_t, diagonal_s))
    rows = np.argsort(-cosine, axis=0, kind="stable")[:count].T
    return rows, np.take_along_axis(cosine.T, rows, axis=1)
