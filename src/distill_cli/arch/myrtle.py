"""architecture=myrtle: Myrtle-5, -7 and -10 with global average pooling (Shankar et al. 2020).

[conv, ReLU], then three groups of [conv, ReLU], a 2x2 average pool after the first two, and a
global average pool. The name counts convolutions and the read-out.
"""

from dataclasses import dataclass

from distill_cli.arch import layers
from distill_cli.config import at_least
from distill_cli.errors import UserError


@dataclass(frozen=True)
class Config:
    """width: channels; depth: 5, 7 or 10."""

    name: str = "myrtle"
    width: int = 256
    depth: int = 5

    def __post_init__(self) -> None:
        at_least("architecture.width", self.width, 1)
        if self.depth not in layers.MYRTLE:
            raise UserError(
                f"architecture.depth={self.depth}: myrtle has 5, 7 or 10; add architecture.depth=5 "
                "(a recipe may have set another)"
            )


def build(config: Config) -> layers.Architecture:
    """The description of this network, without its read-out."""
    return layers.myrtle(config.width, config.depth)
