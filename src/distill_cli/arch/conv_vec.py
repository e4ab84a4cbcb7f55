"""architecture=conv_vec: depth x [conv 3x3, ReLU], flatten; no pooling (KIP's Conv-Vec)."""

from dataclasses import dataclass

from distill_cli.arch import layers
from distill_cli.config import at_least


@dataclass(frozen=True)
class Config:
    """width: channels; depth: convolutions."""

    name: str = "conv_vec"
    width: int = 256
    depth: int = 3

    def __post_init__(self) -> None:
        at_least("architecture.width", self.width, 1)
        at_least("architecture.depth", self.depth, 1)


def build(config: Config) -> layers.Architecture:
    """The description of this network, without its read-out."""
    return layers.conv_vec(config.width, config.depth)
