"""What an initialiser is: a module with a dataclass `Config` and `initial(config, request)`."""

import importlib
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from distill_cli.arch.layers import Architecture


@dataclass(frozen=True)
class Request:
    """What an initialiser may look at: the preprocessed training split, nothing else.

    images: (n, h, w, c) float32; labels: (n,); ipc: images wanted per class; classes; seed: the
    run's; architecture: for initialisers that need features; micro: images per forward pass.
    """

    images: np.ndarray
    labels: np.ndarray
    ipc: int
    classes: int
    seed: int
    architecture: Architecture
    micro: int

    def rows(self, label: int) -> np.ndarray:
        """Rows of the training split that carry this label."""
        return np.flatnonzero(self.labels == label)

    def generator(self, name: str) -> np.random.Generator:
        """NumPy randomness that depends on (seed, name) alone."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


class Initial(NamedTuple):
    """images: (classes * ipc, h, w, c) float32, class-major; rows: their places in the training
    split, or None where they are no training images."""

    images: np.ndarray
    rows: np.ndarray | None


def initialise(config: Any, request: Request) -> Initial:
    """Run the initialiser named in its configuration."""
    return importlib.import_module(f"distill_cli.init.{config.name}").initial(config, request)


def real_images(request: Request, rows_per_class: list[np.ndarray]) -> Initial:
    """Initial set of the given training rows, class-major."""
    rows = np.concatenate(rows_per_class)
    return Initial(np.asarray(request.images[rows], np.float32), rows)
