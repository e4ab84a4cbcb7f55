"""logger=wandb: Weights & Biases; offline by default, files in <run>/wandb."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distill_cli.train.loggers import Run, require


@dataclass(frozen=True)
class Config:
    """mode: offline writes files that `wandb sync` uploads, online uploads at once.

    A run's id is its digest, so that a resumed run goes on.
    """

    project: str = "distill_cli"
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require("wandb", "wandb")


@dataclass
class WeightsAndBiases:
    """One wandb run."""

    run: Any

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


def open_sink(config: Config, run: Run) -> WeightsAndBiases:
    """Start or resume the run of this digest."""
    import wandb  # pyright: ignore[reportMissingImports]

    opened = wandb.init(
        project=config.project, entity=config.entity, mode=config.mode, tags=list(config.tags),
        dir=str(run.folder), name=run.name, id=run.digest, resume="allow", config=dict(run.config),
        settings=wandb.Settings(console="off", silent=True),
    )  # fmt: skip
    return WeightsAndBiases(opened)
