"""What an evaluation protocol is: a module with a dataclass `Config` and `evaluate(...)`."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.core.types import Coreset, Metric
from distill_cli.kernels.exact import gram

Report = Callable[[str, float], None]  # (what, fraction done)


@dataclass
class Problem:
    """What coresets are measured on, all in the preprocessed space, on the host.

    valid: (images, labels) of the training split, for early stopping; test: (images, labels);
    ridge: relative ridge of kernel regression; kernels: exact kernels that some protocol of this
    evaluation needs, made in one pass; limit: test images used by the exact kernels.
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
    limit: int | None = None
    report: Report = lambda what, fraction: None
    _grams: dict[int, tuple[Coreset, dict[str, Any], float]] = field(default_factory=dict)

    def grams(self, coreset: Coreset) -> tuple[dict[str, Any], float]:
        """({kernel: (K_ss, K_ts)}, seconds) of a coreset, computed once for all protocols."""
        import time

        if id(coreset) not in self._grams:
            start = time.monotonic()
            options: dict[str, Any] = {"get": self.kernels, "engine": self.engine}
            images = np.asarray(coreset.images, np.float32)
            test = self.test[0][: self.limit]
            k_ss = gram(self.architecture, images, **options)
            k_ts = gram(
                self.architecture, test, images, **options,
                progress=lambda done, total: self.report("exact kernels", done / total),
            )  # fmt: skip
            both = {name: (k_ss[name], k_ts[name]) for name in self.kernels}
            self._grams[id(coreset)] = (coreset, both, time.monotonic() - start)
        _, both, seconds = self._grams[id(coreset)]
        return both, seconds


def evaluate(name: str, config: Any, coreset: Coreset, problem: Problem) -> Metric:
    """Run one protocol by name."""
    module = importlib.import_module(f"distill_cli.evaluation.{name}")
    return module.evaluate(config, coreset, problem)


def exact_kernels(protocols: Iterable[str]) -> tuple[str, ...]:
    """Exact kernels that these protocols need (attribute KERNEL of their modules)."""
    modules = (importlib.import_module(f"distill_cli.evaluation.{name}") for name in protocols)
    return tuple(sorted({m.KERNEL for m in modules if getattr(m, "KERNEL", None)}))
