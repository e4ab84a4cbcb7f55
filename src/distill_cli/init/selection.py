"""From scores to images: what all selecting initialisers share."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from distill_cli.config import at_least
from distill_cli.core.types import one_hot_centred
from distill_cli.errors import UserError
from distill_cli.init.base import Initial, Request
from distill_cli.init.features import FeatureConfig, Features, Rows
from distill_cli.init.leverage import leverage

FLOOR = 1e-12  # share of the total below which no score falls, so that any image can be drawn
log = logging.getLogger(__name__)

Pick = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class SelectionConfig(FeatureConfig):
    """balanced: ipc images of every class (true), or classes * ipc images of any class."""

    balanced: bool = True


@dataclass(frozen=True)
class SampledConfig(SelectionConfig):
    """Initialisers that draw with probability p_i, hence with weights u_i = 1 / (m p_i).

    replace: draw with replacement, which makes the weights exactly unbiased, but an image may come
    twice. weights: drop, or ridge: kernel regression on the set takes the ridge
    lam diag(mean(u) / u_i), by which an image counts u_i times; recorded in either case.
    """

    replace: bool = False
    weights: Literal["drop", "ridge"] = "drop"


@dataclass(frozen=True)
class LeverageConfig(SelectionConfig):
    """lam: ridge relative to tr K; effective_dimension: or what tr H is to be. Neither: twice the
    number of images wanted, because only above that number redundant images differ from others.
    class_wise: scores of each class among its own images alone, without labels; lam and
    effective_dimension then hold for each class.
    """

    lam: float | None = None
    effective_dimension: float | None = None
    class_wise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam is not None and self.effective_dimension is not None:
            raise UserError("init.lam and init.effective_dimension: give one of them")
        if self.lam is not None and not self.lam > 0:
            raise UserError(f"init.lam={self.lam}: must be above 0")
        if self.effective_dimension is not None:
            at_least("init.effective_dimension", self.effective_dimension, 1)
        if self.class_wise and not self.balanced:
            raise UserError(
                "init.class_wise=true: compares images of one class; needs balanced=true"
            )


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
    config: SampledConfig, request: Request, scores: np.ndarray, record: dict[str, Any]
) -> Initial:
    """Rows drawn with probability proportional to scores (n,), inside each class if balanced."""
    generator = request.generator("init")
    rows, weights, fallbacks = [], [], 0
    for members, count in groups(request, config.balanced):
        picks, weight, uniform = draw(scores[members], count, generator, config.replace)
        rows.append(members[picks])
        weights.append(weight)
        fallbacks += uniform
    if fallbacks:
        log.warning("init=%s: scores of %d groups are unusable; drawn uniformly",
                    getattr(config, "name", "?"), fallbacks)  # fmt: skip
    own = {"scores": scores, "total": float(scores.sum()), "fallbacks": fallbacks}
    picked, weight = np.concatenate(rows), np.concatenate(weights)
    return chosen(
        request, picked, config.balanced, {**record, **own}, weight, config.weights == "ridge"
    )


def chosen(
    request: Request,
    rows: np.ndarray,
    balanced: bool,
    record: dict[str, Any],
    weights: np.ndarray | None = None,
    weigh_ridge: bool = False,
) -> Initial:
    """The initial set of these rows, sorted by class, with what is recorded of every selection."""
    order = np.argsort(request.labels[rows], kind="stable")
    rows = rows[order]
    labels = np.asarray(request.labels[rows])
    record = {**record, "distinct_classes": len(set(labels.tolist())),
              "distinct_rows": len(set(rows.tolist()))}  # fmt: skip
    ridge_weights = None
    if weights is not None:
        record["weights"] = weights[order]
        if weigh_ridge:
            ridge_weights = weights.mean() / weights[order]
    if "scores" in record:
        record["chosen_scores"] = record["scores"][rows]
    images = np.asarray(request.images[rows], np.float32)
    return Initial(images, rows, None if balanced else labels, record, ridge_weights)


class Scores(NamedTuple):
    """ridge: H_ii (n,); label: E_i S^+ E_i' (n,); record: what is kept of them in the result."""

    ridge: np.ndarray
    label: np.ndarray
    record: dict[str, Any]


def scored(config: LeverageConfig, request: Request) -> Scores:
    """Leverage of all training images in the configured features."""
    features, wanted = Features(config, request), config.effective_dimension
    if config.lam is None and wanted is None:
        wanted = 2.0 * request.ipc * (1 if config.class_wise else request.classes)
    if config.class_wise:
        return class_wise(config.lam, wanted, request, features)
    targets = np.asarray(one_hot_centred(request.labels, request.classes), np.float64)
    found = leverage(features, targets, config.lam, wanted)
    record = {
        "lam": found.lam, "lam_relative": found.lam / found.trace if found.trace > 0 else None,
        "effective_dimension": found.effective_dimension, "precision": found.precision,
    }  # fmt: skip
    return Scores(found.ridge, found.label, record)


def class_wise(
    lam: float | None, wanted: float | None, request: Request, features: Features
) -> Scores:
    """Leverage with K restricted to one class at a time and no label term; the record has a ridge
    and an effective dimension for each class."""
    ridge = np.empty(len(request.labels))
    parts = []
    for label in range(request.classes):
        rows = request.rows(label)
        unlabelled = np.zeros((len(rows), 1))
        parts.append(leverage(Rows(features, rows), unlabelled, lam, wanted))
        ridge[rows] = parts[-1].ridge
    record = {
        key: [getattr(part, key) for part in parts]
        for key in ("lam", "effective_dimension", "precision")
    }
    return Scores(ridge, np.zeros(len(ridge)), record)
