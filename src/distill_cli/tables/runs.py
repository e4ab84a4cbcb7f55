"""The run folder behind a seed of a cell: where it is, in what state, and what else lies there.

Imports no jax. A cell's folder is known from its command alone: it is named by a digest of the
composed configuration, which the caller's `locate` gives.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_cli.config import config_dir
from distill_cli.core.files import read_json
from distill_cli.core.lock import is_locked
from distill_cli.errors import UserError
from distill_cli.report.damage import damage, of_another_task, rows_of
from distill_cli.report.json_values import section
from distill_cli.report.parse import parse_result
from distill_cli.tables.metrics import MetricSpec, RunFiles, chosen_row, snapshot, value_of
from distill_cli.tables.spec import Cell
from distill_cli.version import __version__

DEFAULTS = {"method": "rfad", "dataset": "digits"}  # of config.yaml; methods may set ipc
RUN_METRICS = ("accuracy", "baseline")


@dataclass(frozen=True)
class Located:
    """A composed command: digest, folder, and the resolved evaluation section."""

    digest: str
    folder: Path
    evaluation: Mapping[str, Any]


Locate = Callable[[Sequence[str]], Located]  # overrides of `distill` -> Located


@dataclass(frozen=True)
class SeedRun:
    """One seed of a cell on disk.

    state: done; missing (no folder); unfinished (stopped, can go on); running (its folder is in
    use); unmeasured (finished, a protocol is missing or was measured with other settings); broken
    (result.json cannot be read or belongs to another configuration); foreign (another command's
    file, or no command at all); invalid (the command is wrong; reason says why).
    """

    seed: int
    state: str
    command: str
    files: RunFiles | None = None
    folder: Path | None = None
    reason: str = ""

    @property
    def version(self) -> str | None:
        """Of the program that measured; None where nothing says."""
        return None if self.files is None else self.files.result.version or None

    @property
    def other_version(self) -> bool:
        return self.version not in (None, __version__)


def might_exist(argv: Sequence[str], out: Path) -> bool:
    """False where no run of this method, dataset and ipc can be in `out`, which saves composing."""
    given = DEFAULTS | dict(word.split("=", 1) for word in argv[1:] if "=" in word)
    if "dataset.name" in given or "method.name" in given:
        return True
    folder = out / given["method"] / given["dataset"]
    return (folder / f"ipc{given['ipc']}" if "ipc" in given else folder).is_dir()


def seed_run(
    cell: Cell, seed: int, out: Path, more: Sequence[str], locate: Locate, thorough: bool = False
) -> SeedRun:
    """Find a seed's run and its state. thorough: say the folder even where nothing is there yet."""
    if not cell.command:
        return foreign(cell, seed, out)
    argv = cell.argv(seed, more)
    command = cell.command_line(seed, more)
    if argv[0] != "distill":
        return foreign(cell, seed, out)
    if not thorough and not might_exist(argv, out):
        return SeedRun(seed, "missing", command)
    try:
        place = locate([*argv[1:], f"out={quoted(out)}"])
    except UserError as error:
        if more:  # then it is what was typed that may be wrong
            raise
        return SeedRun(seed, "invalid", command, reason=str(error))
    result = read_json(place.folder / "result.json")
    state = state_of(place, result, cell.metrics)
    files = RunFiles(place.folder, parse_result(result), out) if state == "done" else None
    return SeedRun(seed, state, command, files, place.folder)


def quoted(path: Path) -> str:
    """A path as a value that Hydra's grammar takes."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def state_of(place: Located, result: Any, metrics: Iterable[MetricSpec]) -> str:
    """The state of a run folder, given its result.json."""
    if is_locked(place.folder):
        return "running"
    if result is None:
        if (place.folder / "result.json").is_file():
            return "broken"
        return "unfinished" if (place.folder / "checkpoints").is_dir() else "missing"
    if not isinstance(result, dict) or result.get("digest") != place.digest:
        return "broken"
    wanted = {metric.protocol for metric in metrics if metric.kind in RUN_METRICS}
    sound = [row for row in rows_of(result) if not damage(row)]
    measured = {row.get("protocol"): row for row in sound}
    for protocol in wanted:
        if protocol not in measured or not same_settings(protocol, measured[protocol], place):
            return "unmeasured"
    return "done"


def same_settings(protocol: str, row: Mapping[str, Any], place: Located) -> bool:
    """Whether a row was measured with the settings that the command asks for."""
    asked = dict(place.evaluation.get(protocol) or {})
    common = {"networks": "networks", "epochs": "epochs", "architecture": "architectures"}
    for key, name in common.items():  # of every protocol that trains networks
        if name in asked and place.evaluation.get(key) is not None:
            asked[name] = place.evaluation[key]
    asked["baseline"] = place.evaluation.get("baseline", True)
    if protocol.startswith("krr_"):
        asked |= {key: place.evaluation.get(key) for key in ("limit", "engine")}
    settings = section(row, "settings")
    asked = json.loads(json.dumps(asked, default=str))
    return all(settings.get(key) == value for key, value in asked.items())


def foreign(cell: Cell, seed: int, out: Path) -> SeedRun:
    """A cell whose numbers stand in a JSON file, another command's or a committed one."""
    command = cell.command_line(seed) if cell.command else ""
    metric = next((m for m in cell.metrics if m.kind == "value" and m.files), None)
    if metric is None:
        return SeedRun(seed, "foreign", command)
    roots = (out, Path(), config_dir().parent)
    for path in (root / name for name in metric.files for root in roots):
        row = chosen_row(metric, path, seed)
        if row is not None and row.get(metric.key) is not None:
            files = RunFiles(path.parent, parse_result(row), out, row=row)
            return SeedRun(seed, "done", command, files, path.parent)
    return SeedRun(seed, "missing", command)


def pending_snapshots(cell: Cell, run: SeedRun) -> Iterator[tuple[MetricSpec, Path]]:
    """Snapshots of a finished run that a metric wants and that are not measured yet."""
    seen = set()
    for metric in cell.metrics:
        if run.files is None or metric.kind != "accuracy_at":
            continue
        path = snapshot(metric, run.files)
        if path and path not in seen and value_of(metric, run.files) is None:
            seen.add(path)
            yield metric, path


def unusable(out: Path) -> list[tuple[Path, str]]:
    """Run folders under `out` that no table can read, with the reason.

    Broken: result.json is no JSON object. Running: a process holds the folder. Foreign: result.json
    without the keys of this program's runs.
    """
    found = []
    for folder in sorted({path.parent for path in run_files(out)}):
        result = folder / "result.json"
        content = read_json(result) if result.is_file() else None
        if is_locked(folder):
            found.append((folder, "running"))
        elif not result.is_file():
            continue  # stopped before it had a result: `run` goes on with it
        elif of_another_task(content):
            continue
        elif not isinstance(content, dict):
            found.append((folder, "broken: result.json is not a JSON object"))
        elif not {"digest", "method", "dataset", "evaluations"} <= content.keys():
            found.append((folder, "foreign: result.json is not of this program"))
    return found


def run_files(out: Path) -> Iterator[Path]:
    """result.json and .lock of everything that looks like a run folder, at the usual depths."""
    for depth in range(5):
        stars = "/".join(["*"] * depth)
        for name in ("result.json", ".lock"):
            yield from out.glob(f"{stars}/{name}" if stars else name)
