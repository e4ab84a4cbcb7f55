"""evaluation=frepo: FRePo's protocol (Zhou, Nezhadarya & Ba, NeurIPS 2022, arXiv 2206.00719).

Values of the released program (yongchao97/FRePo, commit 9b98c65): fresh networks without
normalisation, 1/2 squared error (sum over classes) against the coreset's own labels, Adam with a
peak of 3e-4, 500 steps of linear warm-up, then a cosine down to 1 %, batches of min(S, 500), one
augmentation per step with parameters per image, one test after the last of T steps.
The released program does not shuffle, so that a batch of a larger set always holds the same
classes; here batches are shuffled unless compat is true.
"""

import math
from dataclasses import dataclass

from distill_cli.augment import frepo as operations
from distill_cli.augment import strategy
from distill_cli.config import at_least
from distill_cli.core.types import Coreset, Metric
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.batching import Batching
from distill_cli.evaluation.optimiser import Optimiser
from distill_cli.evaluation.protocol import Networks, refuse_norm, run_protocol
from distill_cli.evaluation.trainer import Recipe

# Steps by the number S of learned images, as released; other S are refused there.
STEPS = {
    10: 1000, 100: 2000, 200: 20000, 400: 5000, 500: 5000, 1000: 10000, 2000: 40000, 5000: 40000,
}  # fmt: skip
LADDER = (10, 100, 500, 1000, 5000)  # the monotone part, between which other S are interpolated
WARMUP = 500
DESCRIPTION = (
    "fresh networks without norm, 1/2 squared error on the learned labels, Adam 3e-4 with warm-up "
    "and cosine, batch min(S, 500), {augmentation}, {steps} steps, tested once at the end (FRePo "
    "protocol)"
)


@dataclass(frozen=True)
class Config(Networks):
    """steps: T (None: by the number of images, `default_steps`); augmentation: operations of
    augment.frepo joined by _, none, or auto (all, without flip on grey images); compat: batches
    in fixed order and networks as in the released program."""

    architectures: tuple[str, ...] = ("frepo_conv",)
    norm: str | None = "none"
    steps: int | None = None
    learning_rate: float = 3e-4
    batch: int = 500
    augmentation: str = "auto"
    compat: bool = False

    def __post_init__(self) -> None:
        self.check("frepo")
        refuse_norm(self, "frepo")
        at_least("evaluation.frepo.batch", self.batch, 1)
        at_least("evaluation.frepo.learning_rate", self.learning_rate, 0)
        if self.steps is not None:
            at_least("evaluation.frepo.steps", self.steps, 1)
        if self.augmentation != "auto":
            strategy.parse(
                self.augmentation, operations.OPERATIONS, "evaluation.frepo.augmentation"
            )


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol frepo, on all test images."""
    made = recipe(config, len(coreset.images), int(coreset.images.shape[-1]))
    chosen = made.augmentation[1] if made.augmentation else "none"
    shown = f"augmentation {chosen} (frepo)" if made.augmentation else "no augmentation"
    return run_protocol(
        "frepo", DESCRIPTION.format(augmentation=shown, steps=made.steps), config, coreset, problem,
        made, compat=config.compat, learning_rate=config.learning_rate,
        settings={"steps": made.steps, "augmentation": chosen},
    )  # fmt: skip


def recipe(config: Config, count: int, channels: int) -> Recipe:
    """The training on `count` images with so many channels."""
    steps = config.steps or default_steps(count)
    chosen = config.augmentation
    if chosen == "auto":
        chosen = operations.default_strategy(channels)
    return Recipe(
        "squared",
        steps,
        Batching("ordered" if config.compat else "epochs", config.batch),
        # Half of a run that is shorter than any published one.
        Optimiser("adam", "cosine", warmup=min(WARMUP, steps // 2), floor=0.01),
        None if chosen in ("", "none") else ("frepo", chosen),
    )


def default_steps(count: int) -> int:
    """T for S learned images: the published value, else log-log interpolation.

    Between 10, 100, 500, 1000 and 5000 images (T = 1000, 2000, 5000, 10000, 40000), rounded to
    hundreds; constant outside. The published 200, 400 and 2000 belong to other resolutions and are
    used only for exactly these sizes.
    """
    if count in STEPS:
        return STEPS[count]
    inside = min(max(count, LADDER[0]), LADDER[-1])
    above = next(at for at in LADDER if at >= inside)
    below = max((at for at in LADDER if at < above), default=above)
    if above == below:
        return STEPS[above]
    share = math.log(inside / below) / math.log(above / below)
    return round(STEPS[below] * (STEPS[above] / STEPS[below]) ** share / 100) * 100
