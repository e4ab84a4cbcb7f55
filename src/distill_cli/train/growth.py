"""Parts of a run: cheap steps first, with fewer or narrower networks or smaller batches.

Every part is the run's own configuration with other sizes, its distiller bound to them; the
method's state, the validation and the seeds stay the same throughout.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from distill_cli.config import Config
from distill_cli.methods.base import Distiller


class Part(NamedTuple):
    """Steps from `start` on are made with `distiller`, whose configuration `config` is."""

    start: int
    config: Config
    distiller: Distiller[Any]


def part_configs(config: Config) -> list[tuple[int, Config]]:
    """(first step, configuration) of each part, in order; the last is the run's own."""
    growth = config.growth
    *early, last = growth.starts(config.steps)
    return [*((at, early_config(config, i)) for i, at in enumerate(early)), (last, config)]


def early_config(config: Config, index: int) -> Config:
    """The configuration of early part `index`: sizes replaced as growth says."""
    growth, changes = config.growth, {}
    if growth.networks:
        changes["kernel"] = dataclasses.replace(config.kernel, networks=growth.networks[index])
    if growth.width:
        width = growth.width[index]
        changes["architecture"] = dataclasses.replace(config.architecture, width=width)
    if growth.batch:
        changes["batch"] = dataclasses.replace(config.batch, size=growth.batch[index])
    return dataclasses.replace(config, **changes)


def part_at(parts: Sequence[Part], step: int) -> int:
    """Index of the part that makes this step."""
    return max(index for index, part in enumerate(parts) if part.start <= step)
