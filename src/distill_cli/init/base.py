"""What an initialiser is: a module with a dataclass `Config` and `initial(config, request)`."""

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.core.coreset_io import CoresetFile
from distill_cli.errors import UserError

LONGEST_LIST = 1000  # numbers of one entry that a record keeps one by one
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Request:
    """What an initialiser may look at: the preprocessed training split, nothing else.

    images: (n, h, w, c) float32; labels: (n,); ipc: images wanted per class; classes; seed: the
    run's; architecture: for initialisers that need features; micro: images per forward pass.
    method_features: images -> (n, p), what the method itself compares images by at step 0, where it
    has that; takes_labels: whether the caller reads Initial.labels, so that classes may be unequal.
    stored: a Config of init=coreset -> that coreset file in the run's preprocessed space.
    """

    images: np.ndarray
    labels: np.ndarray
    ipc: int
    classes: int
    seed: int
    architecture: Architecture
    micro: int
    method_features: Callable[[np.ndarray], Any] | None = None
    takes_labels: bool = False
    stored: Callable[[Any], CoresetFile] | None = None

    def rows(self, label: int) -> np.ndarray:
        """Rows of the training split that carry this label."""
        return np.flatnonzero(self.labels == label)

    def generator(self, name: str) -> np.random.Generator:
        """NumPy randomness that depends on (seed, name) alone."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


class Initial(NamedTuple):
    """images: (classes * ipc, h, w, c) float32, class-major; rows: their places in the training
    split, or None where they are no training images; labels: (classes * ipc,) ascending, or None
    for ipc images of every class; record: numbers and arrays worth keeping (scores, ridge);
    ridge_weights: (classes * ipc,) mean(u) / u_i, which scale the ridge of kernel regression where
    images were drawn with weights u and init.weights=ridge; targets: (classes * ipc, all classes),
    log_temperature: labels and temperature that a start brings with it, for runs that learn
    them."""

    images: np.ndarray
    rows: np.ndarray | None
    labels: np.ndarray | None = None
    record: dict[str, Any] | None = None
    ridge_weights: np.ndarray | None = None
    targets: np.ndarray | None = None
    log_temperature: float = 0.0


def initialise(config: Any, request: Request) -> Initial:
    """Run the initialiser named in its configuration."""
    if not getattr(config, "balanced", True) and not request.takes_labels:
        raise UserError("init.balanced=false: this task needs ipc images of every class")
    return importlib.import_module(f"distill_cli.init.{config.name}").initial(config, request)


def real_images(request: Request, rows_per_class: list[np.ndarray]) -> Initial:
    """Initial set of the given training rows, class-major."""
    rows = np.concatenate(rows_per_class)
    return Initial(np.asarray(request.images[rows], np.float32), rows)


def json_record(record: dict[str, Any] | None) -> dict[str, Any]:
    """A record as JSON values: long arrays become their quantiles (0, 5, 25, 50, 75, 95, 100 %)."""
    plain = {}
    for key, value in (record or {}).items():
        if isinstance(value, np.ndarray) and value.size > LONGEST_LIST:
            plain[f"{key}_quantiles"] = np.quantile(value, QUANTILES).tolist()
        else:
            plain[key] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return plain
