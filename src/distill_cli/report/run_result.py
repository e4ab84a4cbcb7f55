"""What result.json and evaluation.json say, as values with types (made by report/parse.py).

What is missing, null, NaN or of another kind in the file is None, "" or empty here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from distill_cli.report.class_results import ClassResults, class_results
from distill_cli.report.json_values import number, section


@dataclass(frozen=True)
class Measured:
    """Accuracy of one set of images under one protocol.

    accuracy, balanced_accuracy: in [0, 1]; std: over n networks or draws; images: that were
    measured on. classes: what the measurement says of each class, None where it says nothing.
    """

    accuracy: float | None = None
    std: float | None = None
    n: int | None = None
    balanced_accuracy: float | None = None
    images: int | None = None
    by_class: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def classes(self) -> ClassResults | None:
        return class_results(self.by_class, self.images)

    @property
    def sampling_error(self) -> float | None:
        """Standard error of one accuracy p from the number n of test images: sqrt(p (1 - p)/n)."""
        p, n = self.accuracy, self.images
        if p is None or n is None or n < 1 or not 0 <= p <= 1:
            return None
        return math.sqrt(p * (1 - p) / n)

    @property
    def error(self) -> float | None:
        """Standard error over test images and, where it is a mean, over networks."""
        drawn = self.sampling_error
        trained = self.std / math.sqrt(self.n) if self.std and self.n and self.n > 0 else 0.0
        return None if drawn is None else math.hypot(drawn, trained)

    @property
    def balanced_differs(self) -> bool:
        """Whether balanced accuracy differs from accuracy by more than one `sampling_error`."""
        plain, balanced, error = self.accuracy, self.balanced_accuracy, self.sampling_error
        if plain is None or balanced is None or error is None:
            return False
        return abs(plain - balanced) > error


@dataclass(frozen=True)
class Evaluation(Measured):
    """One protocol's measurement of the coreset.

    protocol: its name, None where it is missing; split: of the images measured on; seconds: it
    took; real: the same of random real images; other_real: of other real images, by the name of
    their choice; detail: what the protocol recorded besides; what: protocol, settings and
    conditions, equal for two measurements that repeat one another.
    """

    protocol: str | None = None
    split: str = "test"
    nll: float | None = None
    ece: float | None = None
    seconds: float | None = None
    real: Measured = field(default_factory=Measured)
    other_real: Mapping[str, Measured] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict, repr=False)
    what: tuple[Any, ...] = ()

    @property
    def gain(self) -> float | None:
        """Accuracy of the coreset minus that of random real images."""
        if self.accuracy is None or self.real.accuracy is None:
            return None
        return self.accuracy - self.real.accuracy

    @property
    def clear_gain(self) -> bool:
        """Whether the gain is at least twice its standard error, or the error is not known.

        The two were measured on the same images, which makes the true error smaller.
        """
        change, errors = self.gain, (self.error, self.real.error)
        known = [error for error in errors if error is not None]
        return change is None or len(known) < 2 or abs(change) >= 2 * math.hypot(*known)

    @property
    def reliability(self) -> tuple[list[float], list[float]]:
        """(mean confidence, accuracy) of the confidence bins that hold images; [] where they are
        not recorded. They are those of exact kernel regression (evaluation/krr.py)."""
        bins = section(self.detail, "calibration").get("bins")
        found = [b for b in bins if isinstance(b, dict)] if isinstance(bins, list) else []
        pairs = [(number(b.get("confidence")), number(b.get("accuracy"))) for b in found]
        full = [(x, y) for x, y in pairs if x is not None and y is not None]
        return [x for x, _ in full], [y for _, y in full]

    def of_architecture(self, name: str) -> float | None:
        """Mean accuracy of one architecture of the transfer table."""
        return number(section(self.detail, "architectures", name).get("mean"))


@dataclass(frozen=True)
class Validation:
    """The kept coreset on validation images. disjoint: whether they were kept out of distilling."""

    accuracy: float | None = None
    loss: float | None = None
    images: int | None = None
    disjoint: bool | None = None


@dataclass(frozen=True)
class StoredCoreset:
    """The file that was measured: its path as recorded, SHA-256, stored numbers."""

    path: str = ""
    sha256: str = ""
    stored_floats: int | None = None


@dataclass(frozen=True)
class RunResult:
    """A run, or a measurement of a coreset file.

    ipc: images per class; per_class: their numbers where they differ; best_step: of the coreset
    that was kept; training: images of the training split and how many were used after prune;
    seconds, peak_memory_mb: by stage and place; config: the composed configuration.
    """

    method: str = ""
    dataset: str = ""
    ipc: int | None = None
    per_class: tuple[int, ...] = ()
    labels: str = ""
    loss: str = ""
    init: str = ""
    seed: int | None = None
    steps: int | None = None
    best_step: int | None = None
    stop_reason: str = ""
    digest: str = ""
    version: str = ""
    command: str = ""
    device: str = ""
    class_names: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    validation: Validation = field(default_factory=Validation)
    coreset: StoredCoreset = field(default_factory=StoredCoreset)
    training: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    environment: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def option(self, *keys: str) -> Any:
        """A value of the configuration, None where it has none: option("kernel", "name")."""
        return section(self.config, *keys[:-1]).get(keys[-1])

    def of_protocol(self, name: str) -> Evaluation | None:
        """The evaluation under a protocol."""
        return next((e for e in self.evaluations if e.protocol == name), None)

    @property
    def corruption(self) -> str:
        """dataset.corrupt; "" where the training images are as they came."""
        found = self.option("dataset", "corrupt")
        return "" if found in (None, "none") else str(found)

    @property
    def kept(self) -> str:
        """Which coreset the run kept: "best" (on validation images) or "last"."""
        return "last" if self.option("validation", "keep") == "last" else "best"

    @property
    def seen_in_training(self) -> bool:
        """Whether the images of the validation score were distilled from as well."""
        return self.validation.disjoint is False and bool(self.steps)

    @property
    def shows_balanced(self) -> bool:
        """Whether balanced accuracy says something else than accuracy in some evaluation, of the
        coreset or of random real images. With equally many test images of every class they are the
        same number."""
        return any(e.balanced_differs or e.real.balanced_differs for e in self.evaluations)

    @property
    def peak_memory(self) -> float | None:
        """MiB of the accelerator where recorded, else of the process."""
        return self.peak_memory_mb.get("device", self.peak_memory_mb.get("host"))
