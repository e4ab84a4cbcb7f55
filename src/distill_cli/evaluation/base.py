"""What an evaluation protocol is: a module with a dataclass `Config` and `evaluate(...)`."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError
from distill_cli.kernels.exact import choose_engine, gram

MOST_SUPPORT = 10_000  # support images of exact regression; float64 matrix of 0.8 GB, one solve
Report = Callable[[str, float], None]  # (what, fraction done)


@dataclass
class Problem:
    """What coresets are measured on, all in the preprocessed space, on the host.

    valid: (images, labels) of the training split, for early stopping; test: (images, labels);
    ridge: relative ridge of kernel regression, times ridge_weights (coreset,) where the coreset has
    them; kernels: exact kernels that some protocol of this evaluation needs, made in one pass;
    limit: test images used by the exact kernels; class_names: in the order of the labels, empty
    where they are not known; partial: where a long measurement keeps finished tiles of kernels and
    finished networks.
    """

    architecture: Architecture
    dataset: str
    ipc: int
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    ridge: float
    seed: int
    kernels: tuple[str, ...] = ("nngp", "ntk")
    engine: str = "auto"
    memory_mb: float = 512.0
    limit: int | None = None
    ridge_weights: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    report: Report = lambda what, fraction: None
    partial: Path | None = None
    _grams: dict[tuple[int, str], tuple[Coreset, dict[str, Any], float]] = field(
        default_factory=dict
    )

    @property
    def engine_used(self) -> str:
        """The engine of the exact kernels: what auto takes for this architecture."""
        if self.engine != "auto":
            return self.engine
        return choose_engine(self.architecture, self.test[0].shape[1:], self.memory_mb)

    def grams(self, coreset: Coreset, images: str = "test") -> tuple[dict[str, Any], float]:
        """({kernel: K(images, S)}, seconds), computed once for all protocols.

        images: test, valid, or coreset for K_ss. Raises UserError where the coreset is too large.
        """
        import time

        if len(coreset.images) > MOST_SUPPORT:
            raise UserError(
                f"evaluation=krr_{self.kernels[0]}: exact regression on {len(coreset.images)} "
                f"images (at most {MOST_SUPPORT}); choose a protocol that trains networks: "
                "finite, frepo, dc, dsa or kip_finite"
            )

        key = (id(coreset), images)
        if key not in self._grams:
            start = time.monotonic()
            support = np.asarray(coreset.images, np.float32)
            other = {"test": self.test[0][: self.limit], "valid": self.valid[0], "coreset": None}
            what = f"exact kernels, {images} images"
            pair = (support, None) if images == "coreset" else (other[images], support)
            found = gram(
                self.architecture, *pair, get=self.kernels, engine=self.engine,
                memory_mb=self.memory_mb,
                progress=lambda done, total: self.report(what, done / total), keep=self.partial,
            )  # fmt: skip
            self._grams[key] = (coreset, found, time.monotonic() - start)
        _, found, seconds = self._grams[key]
        return found, seconds


def evaluate(name: str, config: Any, coreset: Coreset, problem: Problem) -> Metric:
    """Run one protocol by name."""
    module = importlib.import_module(f"distill_cli.evaluation.{name}")
    return module.evaluate(config, coreset, problem)


def exact_kernels(protocols: Iterable[str]) -> tuple[str, ...]:
    """Exact kernels that these protocols need (attribute KERNEL of their modules)."""
    modules = (importlib.import_module(f"distill_cli.evaluation.{name}") for name in protocols)
    return tuple(sorted({m.KERNEL for m in modules if getattr(m, "KERNEL", None)}))
