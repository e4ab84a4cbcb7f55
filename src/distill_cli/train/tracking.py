"""metrics.jsonl, one JSON object a line, in the order of steps, also after a resume; and further
places that the same numbers go to (train/loggers)."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Sink(Protocol):
    """A place that numbers go to besides the file. Only finite numbers are passed on."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class StopTraining(Exception):
    """What a sink raises to end the run; any other exception of a sink only ends the sink."""


def finite(value: Any) -> Any:
    """A JSON number, or None for NaN and infinities, which JSON does not have."""
    number = float(value)
    return number if math.isfinite(number) else None


class Tracker:
    """Appends to a file and flushes each line, so that a kill loses at most one."""

    def __init__(self, path: Path, resume_at: int | None, sinks: Sequence[Sink] = ()) -> None:
        """resume_at: lines of this step and later are dropped; they will be written again."""
        kept = [] if resume_at is None else [r for r in read(path) if r["step"] < resume_at]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, path)
        self._file = path.open("a")
        self._sinks = list(sinks)

    def log(self, step: int, **values: Any) -> None:
        """Write {"step": step, ...}; NaN becomes null. A sink that fails is done without."""
        numbers = {key: finite(value) for key, value in values.items()}
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        known = {key: value for key, value in numbers.items() if value is not None}
        for sink in list(self._sinks):
            try:
                sink.log(step, known)
            except StopTraining:
                raise
            except Exception as error:
                log.warning("logger %s failed and is left out: %s", type(sink).__name__, error)
                self._sinks.remove(sink)

    def close(self) -> None:
        """Close the file and all sinks."""
        self._file.close()
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:
                log.warning("logger %s could not be closed: %s", type(sink).__name__, error)


class NoTracker(Tracker):
    """Keeps nothing: in the processes of a run that do not write."""

    def __init__(self) -> None:
        pass

    def log(self, step: int, **values: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing is open."""


def read(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a line cut off by a kill is left out."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows
