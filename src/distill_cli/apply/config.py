"""Settings of the applications, section `apply` of their configuration. Imports no jax."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from distill_cli.config import at_least, within
from distill_cli.errors import UserError, choice_error
from distill_cli.typed import build

ATTACKS = (
    "loss", "entropy", "modified_entropy", "confidence", "correctness", "logistic", "mlp",
    "forest", "knn",
)  # fmt: skip


@dataclass(frozen=True)
class ExplainConfig:
    """kernel: nngp or ntk (exact), or random_features of the run's architecture; draws, networks:
    of random_features, how many kernels and networks in each; ridge: relative to trace(K_ss)/n
    (None: the coreset's own); shown: test images that get a strip; top: elements of a strip;
    nearest: training images of an element; train_images: training images looked at, spread over
    the classes (None: all); table: test images in contributions.csv (None: all)."""

    name: str = "explain"
    kernel: Literal["nngp", "ntk", "random_features"] = "nngp"
    draws: int = 4
    networks: int = 8
    ridge: float | None = None
    shown: int = 10
    top: int = 3
    nearest: int = 4
    train_images: int | None = 5000
    table: int | None = 1000

    def __post_init__(self) -> None:
        for key in ("draws", "networks", "shown"):
            at_least(f"apply.{key}", getattr(self, key), 1)
        for key in ("top", "nearest"):  # side by side in a picture
            within(f"apply.{key}", getattr(self, key), 1, 20)
        for key in ("train_images", "table"):
            if getattr(self, key) is not None:
                at_least(f"apply.{key}", getattr(self, key), 1)
        if self.ridge is not None:
            at_least("apply.ridge", self.ridge, 0)


@dataclass(frozen=True)
class PrivacyConfig:
    """rho: shares of pixels that stay noise; seeds: of the distillations (None: the run's);
    controls: also measure real images behind the same mask, and noise with learned labels;
    networks: random networks of the feature distance; panel: coreset images shown with their
    nearest training images."""

    name: str = "privacy"
    rho: tuple[float, ...] = (0.0, 0.4, 0.8, 0.95)
    seeds: tuple[int, ...] | None = None
    controls: bool = True
    networks: int = 2
    panel: int = 10

    def __post_init__(self) -> None:
        check_list("rho", self.rho)
        for index, rho in enumerate(self.rho):
            within(f"apply.rho[{index}]", rho, 0, 1)
        if self.seeds is not None:
            check_list("seeds", self.seeds)
        at_least("apply.networks", self.networks, 1)
        at_least("apply.panel", self.panel, 1)


@dataclass(frozen=True)
class MembershipConfig:
    """chunks: numbers of the chunks of the training set that are attacked; chunk: images of one;
    lengths: updates of the students; students: of each arm and length; width: filters of their
    first layer; learning_rate, batch, augmentation: of their training (evaluation=frepo);
    attacks: names; grid: full (published hyper-parameters, slow) or small (one value of each);
    outsiders: who the non-members are, test images as published, or training images outside the
    chunk, which cannot be told from members by coming from another source;
    folds: of the trained attacks; attacked: most members and non-members given to the attacks
    (None: all); bootstrap: resamples of the intervals; level: of the intervals."""

    name: str = "membership"
    chunks: tuple[int, ...] = (0, 1, 2, 3, 4)
    chunk: int = 10000
    lengths: tuple[int, ...] = (100, 250, 500, 1000, 2000, 4000, 8000, 16000)
    students: int = 1
    width: int = 128
    learning_rate: float = 3e-4
    batch: int = 500
    augmentation: str = "auto"
    attacks: tuple[str, ...] = ATTACKS
    grid: Literal["full", "small"] = "full"
    outsiders: Literal["test", "train"] = "test"
    folds: int = 3
    attacked: int | None = None
    bootstrap: int = 1000
    level: float = 0.95

    def __post_init__(self) -> None:
        for key in ("chunks", "lengths", "attacks"):
            check_list(key, getattr(self, key))
        for key in ("chunk", "students", "width", "batch", "bootstrap"):
            at_least(f"apply.{key}", getattr(self, key), 1)
        within("apply.folds", self.folds, 2, 20)
        for index, chunk in enumerate(self.chunks):
            at_least(f"apply.chunks[{index}]", chunk, 0)
        for index, length in enumerate(self.lengths):
            at_least(f"apply.lengths[{index}]", length, 1)
        if self.attacked is not None:
            at_least("apply.attacked", self.attacked, 10)
        if not self.learning_rate > 0:
            raise UserError(f"apply.learning_rate={self.learning_rate}: must be above 0")
        if not 0 < self.level < 1:
            raise UserError(f"apply.level={self.level}: must lie between 0 and 1")
        for name in self.attacks:
            if name not in ATTACKS:
                raise choice_error("apply.attacks", name, ATTACKS)


@dataclass(frozen=True)
class ContinualConfig:
    """increments: steps into which the classes are cut; orders: seeds of the class orders; memory:
    images per class; arms: random, herding, distilled (the configured method); statistics: of the
    channel standardisation, from all classes as published, or from those of the first step. What
    is measured on the union of the memories stands in `evaluation`: krr_nngp, krr_ntk, dc, dsa,
    frepo."""

    name: str = "continual"
    increments: int = 5
    orders: tuple[int, ...] = (0, 1, 2, 3, 4)
    memory: int = 20
    arms: tuple[str, ...] = ("random", "herding", "distilled")
    statistics: Literal["all", "first"] = "all"

    def __post_init__(self) -> None:
        at_least("apply.increments", self.increments, 1)
        at_least("apply.memory", self.memory, 1)
        check_list("orders", self.orders)
        for index, order in enumerate(self.orders):
            at_least(f"apply.orders[{index}]", order, 0)
        check_list("arms", self.arms)
        for name in self.arms:
            if name not in ("random", "herding", "distilled"):
                raise choice_error("apply.arms", name, ("random", "herding", "distilled"))


APPLICATIONS: dict[str, type] = {
    "privacy": PrivacyConfig,
    "membership": MembershipConfig,
    "explain": ExplainConfig,
    "continual": ContinualConfig,
}


def keys_of(application: str) -> tuple[str, ...]:
    """The keys that may be typed without `apply.` before them."""
    return tuple(f.name for f in dataclasses.fields(APPLICATIONS[application]) if f.name != "name")


def parse_apply(tree: dict[str, Any]) -> Any:
    """The typed section; wrong types, keys and values raise UserError."""
    return build(APPLICATIONS[tree["name"]], tree, "apply.")


def check_list(key: str, values: tuple[Any, ...]) -> None:
    """UserError for an empty list and for values that come twice."""
    if not values or len(set(values)) != len(values):
        raise UserError(f"apply.{key}={list(values)}: must be a list of different values")
