"""init=coreset: the images (and learned labels) of a saved coreset, this program's or another's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill_cli.config import at_least
from distill_cli.core.coreset_io import FORMATS, class_counts, sha256
from distill_cli.errors import UserError, choice_error, first_of
from distill_cli.init.base import Initial, Request


@dataclass(frozen=True)
class Config:
    """path: a run folder, a coreset folder or a coreset file; format, index: as for
    distill-evaluate."""

    name: str = "coreset"
    path: str | None = None
    format: str = "auto"
    index: int = 0

    def __post_init__(self) -> None:
        if self.format not in ("auto", *FORMATS):
            raise choice_error("init.format", self.format, ("auto", *FORMATS))
        at_least("init.index", self.index, 0)
        if not self.path:
            raise UserError("init=coreset: give init.path=<run folder or coreset file>")

    def check_path(self) -> None:
        """UserError where there is nothing at `path`. A recorded run may outlive its start, so that
        only a run that begins asks."""
        assert self.path is not None
        if not Path(self.path).expanduser().exists():
            raise UserError(f"init.path={self.path}: no such file or folder")


def initial(config: Config, request: Request) -> Initial:
    """All images of the coreset, class by class, in the run's preprocessed space, with its labels,
    log temperature and ridge weights.

    Hard labels say the class of an image; learned ones may have drifted, and count as class-major.
    Raises UserError unless there are ipc images of every class.
    """
    config.check_path()
    if request.stored is None:
        raise UserError("init=coreset: this task needs images of the training set")
    file = request.stored(config)
    labels = np.asarray(file.coreset.labels)
    counts = class_counts(labels)
    found = [] if counts is None else sorted({int(n) for n in counts if n})
    if counts is None or found != [request.ipc] or (counts > 0).sum() != request.classes:
        many = " or ".join(map(str, found)) if found else f"{len(labels) / labels.shape[1]:.3g}"
        lacking = [] if counts is None else [str(at) for at, n in enumerate(counts) if n == 0]
        shown = f"ipc={found[0]} fits" if len(found) == 1 else "every class needs as many"
        if lacking:
            shown = f"no image of class {first_of(lacking, 5)}"
        raise UserError(
            f"init.path={config.path}: {len(labels)} images of {labels.shape[1]} classes, {many} "
            f"per class, but ipc={request.ipc}; {shown}"
        )
    hard = labels.argmax(1)
    learned = not np.array_equal(np.bincount(hard, minlength=labels.shape[1]), counts)
    order = np.arange(len(labels)) if learned else np.argsort(hard, kind="stable")
    weights = file.ridge_weights
    record = {"path": str(file.path), "sha256": sha256(file.path), "format": file.format}
    return Initial(
        np.asarray(file.coreset.images, np.float32)[order], None, None, record,
        None if weights is None else weights[order], labels[order],
        float(np.asarray(file.coreset.log_temperature)),
    )  # fmt: skip
