"""From scores to images: what all selecting initialisers share."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill_cli.config import at_least
from distill_cli.core.types import one_hot_centred
from distill_cli.errors import UserError
from distill_cli.init.base import Initial, Request
from distill_cli.init.features import FeatureConfig, Features
from distill_cli.init.leverage import Leverage, leverage

FLOOR = 1e-12  # share of the total below which no score falls, so that any image can be drawn
log = logging.getLogger(__name__)

Pick = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class SelectionConfig(FeatureConfig):
    """balanced: ipc images of every class (true), or classes * ipc images of any class."""

    balanced: bool = True


@dataclass(frozen=True)
class LeverageConfig(SelectionConfig):
    """lam: ridge relative to tr K; effective_dimension: or what tr H shall be. Neither: twice the
    number of images wanted, as redundant images are only told apart when it is above that number.
    """

    lam: float | None = None
    effective_dimension: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam is not None and self.effective_dimension is not None:
            raise UserError("init.lam and init.effective_dimension: give one of them")
        if self.lam is not None and not self.lam > 0:
            raise UserError(f"init.lam={self.lam}: must be above 0")
        if self.effective_dimension is not None:
            at_least("init.effective_dimension", self.effective_dimension, 1)


def groups(request: Request, balanced: bool) -> list[tuple[np.ndarray, int]]:
    """(rows, images to take from them): one pair for each class, or one for all."""
    if balanced:
        return [(request.rows(label), request.ipc) for label in range(request.classes)]
    return [(np.arange(len(request.labels)), request.ipc * request.classes)]


def draw(
    scores: np.ndarray, count: int, generator: np.random.Generator, replace: bool = False
) -> tuple[np.ndarray, np.ndarray, bool]:
    """(places, weights, whether uniform): `count` places with p proportional to the scores.

    weights are 1 / (count p_i). Without replacement one after another among those left, by an
    exponential race: the `count` smallest of e_i / p_i with e_i ~ Exp(1). Scores that are all 0, or
    not finite, give uniform probabilities.
    """
    usable = bool(np.isfinite(scores).all() and scores.min() >= 0 and scores.sum() > 0)
    shares = np.maximum(scores / scores.sum(), FLOOR) if usable else np.ones(len(scores))
    shares = shares / shares.sum()
    if replace:
        picks = generator.choice(len(shares), count, p=shares)
    else:
        race = generator.standard_exponential(len(shares)) / shares
        picks = np.argsort(race, kind="stable")[:count]
    return picks, 1 / (count * shares[picks]), not usable


def select(
    config: SelectionConfig, request: Request, pick: Pick, record: dict[str, Any] | None = None
) -> Initial:
    """Rows that pick(rows, count, generator) takes from each group, class-major."""
    generator = request.generator("init")
    parts = groups(request, config.balanced)
    rows = np.concatenate([pick(rows, count, generator) for rows, count in parts])
    return chosen(request, rows, config.balanced, record or {})


def sample(
    config: SelectionConfig,
    request: Request,
    scores: np.ndarray,
    record: dict[str, Any],
    replace: bool = False,
) -> Initial:
    """Rows drawn with probability proportional to scores (n,), inside each class if balanced.

    replace: with replacement. The weights 1/(m p_i) are then exactly unbiased, but an image may
    come twice. They are recorded and never used by the distilled set.
    """
    generator = request.generator("init")
    rows, weights, fallbacks = [], [], 0
    for members, count in groups(request, config.balanced):
        picks, weight, uniform = draw(scores[members], count, generator, replace)
        rows.append(members[picks])
        weights.append(weight)
        fallbacks += uniform
    if fallbacks:
        log.warning("init=%s: scores of %d groups are unusable; drawn uniformly",
                    getattr(config, "name", "?"), fallbacks)  # fmt: skip
    own = {"scores": scores, "total": float(scores.sum()), "fallbacks": fallbacks}
    picked, weight = np.concatenate(rows), np.concatenate(weights)
    return chosen(request, picked, config.balanced, {**record, **own}, weight)


def chosen(
    request: Request,
    rows: np.ndarray,
    balanced: bool,
    record: dict[str, Any],
    weights: np.ndarray | None = None,
) -> Initial:
    """The initial set of these rows, sorted by class, with what is recorded of every selection."""
    order = np.argsort(request.labels[rows], kind="stable")
    rows = rows[order]
    labels = np.asarray(request.labels[rows])
    record = {**record, "distinct_classes": len(set(labels.tolist())),
              "distinct_rows": len(set(rows.tolist()))}  # fmt: skip
    if weights is not None:
        record["weights"] = weights[order]
    if "scores" in record:
        record["chosen_scores"] = record["scores"][rows]
    images = np.asarray(request.images[rows], np.float32)
    return Initial(images, rows, None if balanced else labels, record)


def scored(config: LeverageConfig, request: Request) -> tuple[Leverage, dict[str, Any]]:
    """Leverage of all training images in the configured features, and what is recorded of it."""
    targets = np.asarray(one_hot_centred(request.labels, request.classes), np.float64)
    wanted = config.effective_dimension
    if config.lam is None and wanted is None:
        wanted = 2.0 * request.ipc * request.classes
    found = leverage(Features(config, request), targets, config.lam, wanted)
    record = {
        "lam": found.lam, "lam_relative": found.lam / found.trace if found.trace > 0 else None,
        "effective_dimension": found.effective_dimension, "precision": found.precision,
    }  # fmt: skip
    return found, record
