"""architecture=fully_connected: flatten, then blocks of [dense, ReLU]."""

from dataclasses import dataclass

from distill_cli.arch import layers
from distill_cli.config import at_least


@dataclass(frozen=True)
class Config:
    """width: units of a hidden layer; depth: hidden layers."""

    name: str = "fully_connected"
    width: int = 1024
    depth: int = 1

    def __post_init__(self) -> None:
        at_least("architecture.width", self.width, 1)
        at_least("architecture.depth", self.depth, 1)


def build(config: Config) -> layers.Architecture:
    """The description of this network, without its read-out."""
    return layers.fully_connected(config.width, config.depth)
