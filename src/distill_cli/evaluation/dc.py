"""evaluation=dc: the protocol of DC, DSA and DM without augmentation.

Zhao, Mopuri & Bilen, ICLR 2021 (arXiv 2006.05929); values of the authors' program
(VICO-UoE/DatasetCondensation, commit 53f63a6): SGD 0.01 with momentum 0.9 and weight decay 5e-4,
batches of 256, E + 1 epochs with E = 300 (1000 with augmentation), a tenth of the learning rate and
fresh momentum after epoch E//2 + 1, cross-entropy on integer labels, one test after the last epoch.
"""

from dataclasses import dataclass

from distill_cli.augment import dc as crops
from distill_cli.augment import strategy
from distill_cli.config import at_least
from distill_cli.core.types import Coreset, Metric
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.batching import Batching, steps_per_epoch
from distill_cli.evaluation.optimiser import Optimiser
from distill_cli.evaluation.protocol import Networks, run_protocol
from distill_cli.evaluation.trainer import Recipe

EPOCHS, AUGMENTED_EPOCHS = 300, 1000
DESCRIPTION = (
    "fresh networks, SGD 0.01 (a tenth in the second half), momentum 0.9, weight decay 5e-4, "
    "batch 256, cross-entropy on the labels' argmax, {augmentation}, {epochs} epochs, tested once "
    "at the end ({protocol} protocol)"
)


@dataclass(frozen=True)
class Config(Networks):
    """epochs: E (None: 300, or 1000 with augmentation); augmentation: operations of augment.dc
    joined by _, none, or auto (MNIST crop_scale_rotate, batch norm crop_noise, else none)."""

    networks: int = 20
    epochs: int | None = None
    learning_rate: float = 0.01
    batch: int = 256
    augmentation: str = "auto"

    def __post_init__(self) -> None:
        self.check("dc")
        check_training("dc", self)
        if self.augmentation != "auto":
            strategy.parse(self.augmentation, crops.OPERATIONS, "evaluation.dc.augmentation")


def evaluate(config: Config, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol dc, on all test images."""
    chosen = config.augmentation
    if chosen == "auto":
        chosen = crops.default_strategy(problem.dataset, config.norm == "batch")
    return run_sgd("dc", "dc", chosen, config, coreset, problem)


def check_training(protocol: str, config: Config) -> None:
    """Ranges of what the two protocols have in common."""
    at_least(f"evaluation.{protocol}.batch", config.batch, 1)
    at_least(f"evaluation.{protocol}.learning_rate", config.learning_rate, 0)
    if config.epochs is not None:
        at_least(f"evaluation.{protocol}.epochs", config.epochs, 1)


def run_sgd(
    protocol: str, family: str, augmentation: str, config: Config, coreset: Coreset,
    problem: Problem,
) -> Metric:  # fmt: skip
    """The training that dc and dsa share; `family` is the key of the augmentation."""
    plain = augmentation in ("", "none")
    epochs = epochs_of(config, plain)
    made = recipe(config, family, "none" if plain else augmentation, epochs, len(coreset.images))
    shown = "no augmentation" if plain else f"augmentation {augmentation} ({family})"
    description = DESCRIPTION.format(augmentation=shown, epochs=epochs, protocol=protocol.upper())
    return run_protocol(
        protocol, description, config, coreset, problem, made, learning_rate=config.learning_rate,
        settings={"epochs": epochs, "augmentation": augmentation or "none", "steps": made.steps},
    )  # fmt: skip


def epochs_of(config: Config, plain: bool) -> int:
    """E; plain: without augmentation."""
    return config.epochs or (EPOCHS if plain else AUGMENTED_EPOCHS)


def recipe(config: Config, family: str, augmentation: str, epochs: int, images: int) -> Recipe:
    """E + 1 epochs over `images` images; the drop comes after epoch index E//2 + 1."""
    batching = Batching("epochs", config.batch)
    per_epoch = steps_per_epoch(batching, images)
    optimiser = Optimiser(
        "momentum", "drop", momentum=0.9, weight_decay=5e-4, drop_at=(epochs // 2 + 2) * per_epoch
    )
    drawn = None if augmentation == "none" else (family, augmentation)
    return Recipe("cross_entropy", (epochs + 1) * per_epoch, batching, optimiser, drawn)
