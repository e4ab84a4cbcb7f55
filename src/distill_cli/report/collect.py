"""Finding runs in folders: what is a finished run, and why the rest is not.

A folder is looked at where it holds result.json (a run), evaluation.json (distill-evaluate) or
traces of a run that has not ended; everything else is searched for such folders.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from distill_cli.core.coreset_io import sha256
from distill_cli.core.files import read_json
from distill_cli.core.lock import is_locked
from distill_cli.errors import UserError
from distill_cli.report.damage import damage, of_another_task, rows_of
from distill_cli.report.json_values import section
from distill_cli.report.parse import parse_result
from distill_cli.report.results import read_metrics
from distill_cli.report.run_result import RunResult
from distill_cli.version import __version__

SCHEMA = 1
TRACES = ("metrics.jsonl", "checkpoints", ".lock", "distill.log", ".hydra")
CONFIG_KEYS = ("seed", "labels", "loss")  # which evaluation.json has in its config alone


@dataclass(frozen=True)
class Run:
    """A finished run. result: its result.json, or evaluation.json with what its config says added;
    metrics: lines of metrics.jsonl; notes: what a reader has to know about it."""

    folder: Path
    result: RunResult
    metrics: list[dict[str, float]]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from its neighbours: its digest, or the name of the folder."""
        return self.result.digest or self.folder.name


class Skipped(NamedTuple):
    """A folder that is no finished run of ours, and why."""

    folder: Path
    reason: str


class Collection(NamedTuple):
    """runs in the order of `order`."""

    runs: tuple[Run, ...]
    skipped: tuple[Skipped, ...]


class NotARun(Exception):
    """Why a folder is skipped."""


class OfAnotherTask(NotARun):
    """A result of distill-theory or distill-apply."""


def collect(folders: Iterable[str | Path]) -> Collection:
    """All finished runs in the folders, each once, and what was skipped.

    A run that lies in two places counts once, the first without notes if there is one: the means
    over seeds would be wrong otherwise.
    UserError for a folder that does not exist.
    """
    runs: dict[str, Run] = {}
    skipped: list[Skipped] = []
    places: dict[Path, None] = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder; give folders that hold runs")
        places |= dict.fromkeys(candidates(Path(folder)))
    for place in places:
        if (place / "subspace.json").is_file():
            continue  # of distill-theory, as below
        try:
            run = read_run(place)
        except OfAnotherTask:
            continue  # it has a page of its own
        except NotARun as reason:
            skipped.append(Skipped(place, str(reason)))
            continue
        former = runs.setdefault(run.name, run)
        if former is not run:
            kept, other = (run, former) if former.notes and not run.notes else (former, run)
            runs[run.name] = kept
            reason = f"the same run (settings and seed) as {kept.folder}"
            skipped.append(Skipped(other.folder, reason))
    return Collection(tuple(sorted(runs.values(), key=order)), tuple(skipped))


def order(run: Run) -> tuple[Any, ...]:
    """Data set, size, method, initial images, labels; seeds of one configuration together."""
    own = run.result
    names = own.method, own.init, own.labels
    return own.dataset, own.ipc or 0, *names, own.seed or 0, str(run.folder)


def candidates(folder: Path) -> Iterator[Path]:
    """Folders that hold, or might become, a run; hidden folders are left out."""
    for place, inside, files in os.walk(folder):
        names = {*inside, *files}
        if names & {"result.json", "evaluation.json", *TRACES} and "multirun.yaml" not in names:
            yield Path(place).resolve()
            inside.clear()
        inside[:] = sorted(name for name in inside if not name.startswith("."))


def read_run(place: Path) -> Run:
    """The run in a folder. NotARun, with the reason, for one that is broken, unfinished or foreign.

    A run of another version of distill_cli is taken, with a note.
    """
    file = place / "result.json"
    if not file.is_file():
        file = place / "evaluation.json"
    if not file.is_file():
        if is_locked(place):
            raise NotARun("still running: a process holds its lock")
        raise NotARun("unfinished: no result.json; the command that began it goes on with it")
    raw = read_json(file)
    if not isinstance(raw, dict):
        raise NotARun(f"broken: {file.name} is not a JSON object")
    if of_another_task(raw):
        raise OfAnotherTask
    check_ours(file.name, raw)
    if is_locked(place):
        raise NotARun("still running: a process holds its lock")
    config = section(raw, "config")
    added = {key: config.get(key) for key in CONFIG_KEYS}
    added |= {"init": section(config, "init").get("name")}
    result = parse_result({**added, **raw})
    if not result.evaluations and asked(result):
        raise NotARun("unfinished: distilled, but not evaluated yet; the same command goes on")
    notes = [*notes_of(result), *check_coreset(place, result)]
    return Run(place, result, read_metrics(place), tuple(notes))


def check_ours(name: str, result: Mapping[str, Any]) -> None:
    """NotARun unless the object is a result of this program with usable evaluations."""
    needed = {"schema", "version", "command", "dataset", "evaluations", "coreset"}
    if missing := sorted(needed - result.keys()):
        raise NotARun(f"foreign: {name} without {', '.join(missing)}")
    if result["schema"] != SCHEMA:
        raise NotARun(f"schema {result['schema']}: distill_cli {__version__} reads {SCHEMA}")
    wrong = [key for key in ("config", "seconds") if not isinstance(result.get(key, {}), dict)]
    if wrong:
        raise NotARun(f"broken: {wrong[0]} of {name} is no object")
    rows = rows_of(result)
    if not isinstance(result["evaluations"], list) or len(rows) != len(result["evaluations"]):
        raise NotARun(f"broken: evaluations of {name} are no list of objects")
    for row in rows:
        if wrong := damage(row):
            raise NotARun(f"broken: {wrong}")


def asked(result: RunResult) -> list[str]:
    """Protocols that the run's configuration asks for."""
    return list(result.option("evaluation", "protocols") or ())


def notes_of(result: RunResult) -> Iterator[str]:
    """Version mismatch, protocols that are missing."""
    if result.version != __version__:
        yield f"made by version {result.version}, this is {__version__}"
    missing = sorted(set(asked(result)) - {e.protocol for e in result.evaluations})
    if missing:
        yield f"evaluation unfinished: {', '.join(missing)} missing"


def check_coreset(place: Path, result: RunResult) -> Iterator[str]:
    """NotARun where coreset.npz is not the file that was measured; a note where it is gone."""
    path = result.coreset.path or "coreset/coreset.npz"
    file = place / path
    if not file.exists() and not result.digest:
        file = Path(path).expanduser()  # of distill-evaluate: as it was typed
    if not file.exists():
        yield f"its coreset is not at {path}: no pictures"
    elif file.is_file() and sha256(file) != result.coreset.sha256:
        raise NotARun(f"broken: {file.name} is not the file that was measured (SHA-256)")
