"""architecture=convnet: blocks of [conv 3x3, ReLU, 2x2 average pool] (RFAD section 3)."""

from dataclasses import dataclass

from distill_cli.arch import layers
from distill_cli.config import at_least


@dataclass(frozen=True)
class Config:
    """width: channels; depth: blocks, each halving height and width."""

    name: str = "convnet"
    width: int = 256
    depth: int = 3

    def __post_init__(self) -> None:
        at_least("architecture.width", self.width, 1)
        at_least("architecture.depth", self.depth, 1)


def build(config: Config) -> layers.Architecture:
    """The description of this network, without its read-out."""
    return layers.convnet(config.width, config.depth)
