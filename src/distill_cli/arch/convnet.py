"""architecture=convnet: blocks of [conv 3x3, ReLU, 2x2 average pool] (RFAD section 3)."""

from dataclasses import dataclass

from distill_cli.arch import layers
from distill_cli.config import at_least
from distill_cli.errors import UserError


@dataclass(frozen=True)
class Config:
    """width: channels; depth: blocks, each halving height and width; convs: number of [conv, ReLU]
    of each block (null: one). KIP's ConvNet has convs [2, 1, 1] (Nguyen et al. 2021)."""

    name: str = "convnet"
    width: int = 256
    depth: int = 3
    convs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        at_least("architecture.width", self.width, 1)
        at_least("architecture.depth", self.depth, 1)
        if self.convs is None:
            return
        if len(self.convs) != self.depth or min(self.convs) < 1:
            raise UserError(
                f"architecture.convs={list(self.convs)}: give one number of at least 1 for each of "
                f"the {self.depth} blocks (architecture.depth, which a recipe may have set)"
            )


def build(config: Config) -> layers.Architecture:
    """The description of this network, without its read-out."""
    return layers.convnet(config.width, config.depth, config.convs)
