"""What a stage is told, and the file it writes its results to, whole after every row."""

import argparse
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.core.files import write_json


@dataclass
class Call:
    """One stage's orders.

    stage: its letter; record: its result file; out: the campaign's folder; work: a folder for what
    does not stay; data: TFDS folder or None; limit: seconds, counted from here; rehearse: tiny;
    hardware: recipe of stages d and e.
    """

    stage: str
    record: Path
    out: Path
    work: Path
    data: Path | None
    limit: float
    rehearse: bool
    hardware: str = "full"
    begun: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until the limit."""
        return self.limit - (time.monotonic() - self.begun)

    def arguments(self) -> list[str]:
        """What `parse` reads."""
        given = [
            "--stage", self.stage, "--record", str(self.record), "--out", str(self.out),
            "--work", str(self.work), "--limit", str(self.limit), "--hardware", self.hardware,
        ]  # fmt: skip
        given += ["--data", str(self.data)] if self.data else []
        return given + (["--rehearse"] if self.rehearse else [])


def parse() -> Call:
    """The call that gpu_check.py makes of a stage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True)
    for name in ("--record", "--out", "--work"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--hardware", default="full")
    parser.add_argument("--rehearse", action="store_true")
    return Call(**vars(parser.parse_args()))


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """For a process that only watches: what is imported inside computes on the CPU, while processes
    that it starts get the JAX_PLATFORMS that was given."""
    given = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        yield
    finally:
        os.environ.pop("JAX_PLATFORMS")
        if given is not None:
            os.environ["JAX_PLATFORMS"] = given


class Record:
    """Results of a stage: a JSON object, flushed by every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}

    def put(self, **values: Any) -> None:
        """Set keys."""
        self.values |= plain(values)
        write_json(self.path, self.values)

    def row(self, name: str, row: dict[str, Any]) -> None:
        """Append to the list `name`."""
        self.values.setdefault(name, []).append(plain(row))
        write_json(self.path, self.values)

    @contextmanager
    def guarded(self, where: str, /, **about: Any) -> Iterator[dict[str, Any]]:
        """A row of list `where`, written at the end of the block; an exception is its `error`."""
        row: dict[str, Any] = dict(about)
        try:
            yield row
        except Exception as error:  # the next rows are worth having whatever this one met
            row["error"] = brief(error)
        self.row(where, row)


def brief(error: BaseException) -> str:
    """Kind and message of an exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]


def plain(value: Any) -> Any:
    """The value as JSON has it: NaN and infinities are null, scalars of arrays numbers."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int) else str(value)
