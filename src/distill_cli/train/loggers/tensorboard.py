"""logger=tensorboard: event files in <run>/tensorboard, by tensorboardX (no TensorFlow)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distill_cli.config import at_least
from distill_cli.train.loggers import Run, require


@dataclass(frozen=True)
class Config:
    """flush_seconds: longest time that numbers stay in memory."""

    flush_seconds: int = 30

    def __post_init__(self) -> None:
        at_least("logger.tensorboard.flush_seconds", self.flush_seconds, 1)
        require("tensorboard", "tensorboardX")


@dataclass
class TensorBoard:
    """Scalars by name; `seconds` of the run are not drawn."""

    writer: Any

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name != "seconds":
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def open_sink(config: Config, run: Run) -> TensorBoard:
    """A resumed run writes a further file; events of its checkpoint's step and later are purged."""
    from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

    folder = str(run.folder / "tensorboard")
    return TensorBoard(
        SummaryWriter(folder, purge_step=run.resume_at, flush_secs=config.flush_seconds)
    )
