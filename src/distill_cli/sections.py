"""Sections of the configuration that belong to no component, as frozen dataclasses, and the checks
of their values. Imports no jax."""

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from distill_cli.errors import UserError, shown

GROWING = ("networks", "width", "batch")  # what growth may change


@dataclass(frozen=True)
class BatchConfig:
    """A step's target batch: `number` draws of `size` images, each draw without replacement.

    micro: images whose activations are in memory at once (None: chosen for the device).
    """

    size: int = 1280
    number: int = 4
    micro: int | None = None

    def __post_init__(self) -> None:
        at_least("batch.size", self.size, 1)
        at_least("batch.number", self.number, 1)
        if self.micro is not None:
            at_least("batch.micro", self.micro, 1)


@dataclass(frozen=True)
class ValidationConfig:
    """Choice of the best coreset, on images of the training split only.

    every: steps between validations; patience: steps after the best until the run stops;
    networks: random networks of the validation kernel, fixed through the run; per_class: images of
    each class (None: RFAD's rule, 500 for ten classes, else 100); disjoint: hold them out of
    training instead of sharing them with it as RFAD does;
    keep: the coreset with the smallest validation loss, or the last one (no choice is made, and
    patience does not count).
    """

    every: int = 40
    patience: int = 1000
    networks: int = 16
    per_class: int | None = None
    disjoint: bool = False
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        for key in ("every", "patience", "networks"):
            at_least(f"validation.{key}", getattr(self, key), 1)
        if self.per_class is not None:
            at_least("validation.per_class", self.per_class, 1)


@dataclass(frozen=True)
class PruneConfig:
    """Images left out before anything is distilled, by their loss under the full training set.

    keep: none (all images stay), smallest or largest losses; ratio: share of each class that stays
    (at least ipc images); networks: random networks of the regression whose leave-one-out loss
    decides; lam: its ridge, relative to the kernel's trace. ratio None: one half.
    """

    keep: Literal["none", "smallest", "largest"] = "none"
    ratio: float | None = None
    networks: int = 2
    lam: float = 1e-5

    def __post_init__(self) -> None:
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise UserError(f"prune.ratio={self.ratio}: must be above 0 and at most 1")
        if self.ratio is not None and self.keep == "none":
            raise UserError(f"prune.ratio={self.ratio}: needs prune.keep=smallest or largest")
        at_least("prune.networks", self.networks, 1)
        if not self.lam > 0:
            raise UserError(f"prune.lam={self.lam}: must be above 0")


@dataclass(frozen=True)
class TuningConfig:
    """Stopping the bad trials of a sweep early, by their validation accuracy.

    prune: median stops a trial whose best score so far is below the median of the best scores that
    the other trials had by the same step (Golovin et al., KDD 2017); startup: other trials that
    must have got there; warmup: share of the steps that every trial makes; space: key and range of
    what search=optuna varies where the command has no range (configs/space/<method>.yaml).
    """

    prune: Literal["none", "median"] = "none"
    startup: int = 4
    warmup: float = 0.1
    space: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least("tuning.startup", self.startup, 1)
        within("tuning.warmup", self.warmup, 0, 1)


@dataclass(frozen=True)
class CheckpointConfig:
    """seconds: least time between two checkpoints; keep: how many stay on disk."""

    seconds: float = 30.0
    keep: int = 2

    def __post_init__(self) -> None:
        at_least("checkpoint.seconds", self.seconds, 0)
        at_least("checkpoint.keep", self.keep, 1)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured at the end: protocols by name, each with its own parameters.

    limit: number of test images for the exact kernels (None: all); engine: auto, band or
    neural_tangents; memory_mb: bound on their working memory; networks, architecture, epochs: of
    every protocol that has them, in place of its own values (the first architecture gives the
    result, all of them the transfer table); baseline: also evaluate real images, as many as the
    coreset has; width,
    valid_limit: channels and validation images of networks that are trained (protocols refer to
    them, so that recipes can set them for all).
    """

    limit: int | None = None
    engine: Literal["auto", "band", "neural_tangents"] = "auto"
    memory_mb: float = 512.0
    networks: int | None = None
    architecture: tuple[str, ...] | None = None
    epochs: int | None = None
    baseline: bool = True
    width: int = 1024
    valid_limit: int | None = None
    protocols: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit is not None:
            at_least("evaluation.limit", self.limit, 1)
        at_least("evaluation.memory_mb", self.memory_mb, 1)
        for key in ("networks", "epochs"):
            if (value := getattr(self, key)) is not None:
                at_least(f"evaluation.{key}", value, 1)
        if self.architecture == ():
            raise UserError("evaluation.architecture=[]: name at least one, or null")


@dataclass(frozen=True)
class GrowthConfig:
    """Cheap steps first: parts of the run before the last, which is made as the other keys say.

    shares: of the steps, one for each early part; networks, width, batch: kernel.networks,
    architecture.width and batch.size of each part, empty where they do not change. Validation and
    evaluation do not grow, so that scores of all steps compare.
    """

    shares: tuple[float, ...] = ()
    networks: tuple[int, ...] = ()
    width: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        listed = {key: getattr(self, key) for key in GROWING}
        for index, share in enumerate(self.shares):
            if not 0 < share < 1:
                raise UserError(f"growth.shares[{index}]={share}: must be above 0 and below 1")
        if not sum(self.shares) < 1:
            raise UserError(
                f"growth.shares={shown(self.shares)}: must add up to less than 1; the rest "
                "of the steps is made as the other keys say"
            )
        if self.shares and not any(listed.values()):
            raise UserError(
                f"growth.shares={shown(self.shares)}: needs growth.networks, growth.width or "
                "growth.batch, one value for each share"
            )
        for key, values in listed.items():
            if values and len(values) != len(self.shares):
                raise UserError(
                    f"growth.{key}={shown(values)}: needs one value for each of "
                    f"growth.shares={shown(self.shares)}"
                )
            for index, value in enumerate(values):
                at_least(f"growth.{key}[{index}]", value, 1)

    def starts(self, steps: int) -> list[int]:
        """First steps of all parts, the last one's among them; UserError for a part of no step."""
        starts = [round(steps * sum(self.shares[:at])) for at in range(len(self.shares) + 1)]
        for index, (begin, end) in enumerate(itertools.pairwise([*starts, steps])):
            if self.shares and end <= begin:
                raise UserError(
                    f"growth.shares={shown(self.shares)}: part {index + 1} would have none of the "
                    f"steps={steps}"
                )
        return starts


def at_least(key: str, value: float, low: float) -> None:
    """Raise UserError unless value >= low."""
    if not value >= low:
        raise UserError(f"{key}={value}: must be at least {low}")


def auto_or_number(key: str, value: Any) -> str:
    """auto, or a whole number of at least 1 as text. UserError for anything else."""
    text = str(value)
    number = not isinstance(value, float) and text.isdecimal() and int(text) >= 1
    if text != "auto" and not number:
        raise UserError(f"{key}={shown(value)}: give auto or a number, at least 1")
    return text


def within(key: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless low <= value <= high."""
    if not low <= value <= high:
        raise UserError(f"{key}={value}: must lie in [{low}, {high}]")
