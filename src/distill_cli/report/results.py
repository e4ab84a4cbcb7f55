"""Reading a run's result files, and writing reports whole or not at all.

A log line that is cut short by a kill is skipped. A report of an unfinished or failed run is still
a report.
"""

import json
from pathlib import Path

from distill_cli.core import files
from distill_cli.errors import UserError
from distill_cli.report.json_values import number, numbers
from distill_cli.report.parse import parse_result
from distill_cli.report.run_result import RunResult


def read_result(folder: str | Path) -> RunResult:
    """result.json of a run folder. UserError where it is absent or not a JSON object."""
    path = Path(folder) / "result.json"
    if not path.is_file():
        raise UserError(f"{path}: not found; a run writes it when it ends, give a run's own folder")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(result, dict):
        raise UserError(f"{path}: holds a {type(result).__name__}, expected an object")
    return parse_result(result)


def read_metrics(folder: str | Path) -> list[dict[str, float]]:
    """Lines of metrics.jsonl merged by step, in the order of steps; numbers only.

    A resumed run may log a step twice (the later line wins), and a killed one may end in
    half a line.
    """
    path = Path(folder) / "metrics.jsonl"
    steps: dict[float, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        step = number(entry.get("step")) if isinstance(entry, dict) else None
        if step is not None:
            steps.setdefault(step, {}).update(numbers(entry))
    return [steps[step] for step in sorted(steps)]


def write_bytes(path: str | Path, data: bytes) -> Path:
    """core.files.write_bytes, returning the path."""
    files.write_bytes(Path(path), data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """write_bytes of UTF-8 text with newlines as they are."""
    return write_bytes(path, text.encode("utf-8"))
