"""task sweep: what the jobs of `distill -m` came to, in one table at the end.

Every job, in whatever process or on whatever machine, writes <folder>/jobs/<number>.json when it
begins and when it ends; the process that started the sweep reads them at its end, also when jobs
failed or the sweep was stopped (sweep_stop.py). <folder> is <out>/sweeps/<digest of the command>,
handed down in the environment variable DISTILL_SWEEP. Imports no jax.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from distill_cli.core.files import read_json, write_json
from distill_cli.core.lock import emptied, holding
from distill_cli.errors import RunStopped
from distill_cli.tasks.sweep_files import NOT_STARTED, Row, write_files
from distill_cli.tasks.sweep_jobs import (
    JobStopped,
    Journal,
    TrialPruned,
    journal,
    portable,
    recorded,
)
from distill_cli.tasks.sweep_stop import PROCESS, VARIABLE, Guard, stop_file
from distill_cli.tasks.sweep_text import describe

LOST = ("TerminatedWorkerError", "BrokenProcessPool")  # of joblib


@contextlib.contextmanager
def sweep(arguments: Sequence[str]) -> Iterator[None]:
    """Around the whole of a command: prints and writes the table where it was a sweep.

    Raises RunStopped (128 + signal) where the sweep or a job of it was stopped, and (1) where the
    process of a job was lost.
    """
    if not {"-m", "--multirun"} & set(arguments) or {"--cfg", "-c", "--help"} & set(arguments):
        yield
        return
    folder = sweep_folder(arguments)
    taken = f"{folder}: this same sweep is running"
    lock = folder / "sweep.lock"
    with emptied(folder), holding(lock, taken, keep=False):
        for old in (*folder.glob("jobs/*.json"), folder / "planned.json", stop_file(folder)):
            old.unlink(missing_ok=True)

        def ended(line: str) -> None:
            """The process ends at once, inside native code."""
            if Journal.running is not None:
                Journal.running.write("stopped", error=line)
            conclude(folder, True)
            lock.unlink(missing_ok=True)

        launcher = launcher_of(arguments)
        guard = Guard(folder, launcher != "basic", ended)
        with (
            handed_down(folder),
            removed(stop_file(folder), launcher == "joblib"),
            guard.installed(),
        ):
            try:
                yield
            except BaseException as error:
                guard.deaf = True
                conclude(folder, guard.ends(error))
                if guard.signal is not None and not isinstance(error, SystemExit):
                    raise guard.stopped() from error
                if type(error).__name__ in LOST:
                    text = "the process of a job was lost (is the memory too small?)"
                    raise RunStopped(f"{text}; the same command goes on", 1) from error
                raise
            guard.deaf = True
            states = conclude(folder, guard.signal is not None)
            if guard.signal is not None or "stopped" in states:
                raise guard.stopped()


def sweep_folder(arguments: Iterable[str]) -> Path:
    """<out>/sweeps/<digest>: the same command, the same folder."""
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    out = given.get("hydra.sweep.dir", given.get("out", "outputs")).strip("'\"") or "."
    words = sorted(word for word in arguments if not word.startswith(("out=", "hydra.")))
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]
    return Path(out).expanduser().absolute() / "sweeps" / digest


def launcher_of(arguments: Iterable[str]) -> str:
    """Hydra's launcher; with `basic` the jobs run in the process that starts the sweep."""
    chosen = [word.partition("=")[2] for word in arguments if word.startswith("hydra/launcher=")]
    return chosen[-1] if chosen else "basic"


@contextlib.contextmanager
def removed(path: Path, gone: bool) -> Iterator[None]:
    """Remove the request to stop after a sweep that has no job left which might begin; jobs in a
    cluster's queue still have to find it."""
    try:
        yield
    finally:
        if gone:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def handed_down(folder: Path) -> Iterator[None]:
    """The variables by which the processes of jobs find their sweep."""
    former = {name: os.environ.get(name) for name in (VARIABLE, PROCESS)}
    os.environ.update({VARIABLE: str(folder), PROCESS: str(os.getpid())})
    try:
        yield
    finally:
        for name, value in former.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def read_rows(folder: Path) -> list[Row]:
    """Records of all jobs that were begun, in their order; what is not JSON is left out."""
    found = [read_json(path) for path in folder.glob("jobs/*.json")]
    rows = [row for row in found if isinstance(row, dict) and "command" in row]
    return sorted(rows, key=lambda row: str(row["job"]).zfill(9))


def plan(jobs: Sequence[tuple[str, Path]], trials: int = 0) -> None:
    """Before the first job: the (command, folder) of each, or how many trials a search makes."""
    if place := os.environ.get(VARIABLE):
        rows = [
            {"job": job, "command": command, "folder": str(folder.absolute())}
            for job, (command, folder) in enumerate(jobs)
        ]
        rows += [{"job": job, "command": "", "folder": ""} for job in range(trials)]
        write_json(Path(place) / "planned.json", rows)


def all_rows(folder: Path, stopped: bool) -> list[Row]:
    """A row for every job, each done, pruned, failed, stopped or not started.

    stopped: whether the sweep ended before its time.
    """
    rows = read_rows(folder)
    for row in rows:
        if row["status"] == "running" and stopped:
            row |= {"status": "stopped", "error": "ended at once, without its last steps"}
        elif row["status"] == "running":
            row |= {"status": "failed", "error": "did not end; its process was lost"}
    begun = {row["job"] for row in rows}
    planned = read_json(folder / "planned.json") or []
    # A search that is over made as many trials as it needed.
    left = [row for row in planned if row["job"] not in begun and (row["command"] or stopped)]
    rows += [{**row, "status": NOT_STARTED} for row in left]
    return sorted(rows, key=lambda row: str(row["job"]).zfill(9))


def conclude(folder: Path, stopped: bool) -> set[str]:
    """Write the sweep's files and print its table, if a job was begun or the sweep was stopped;
    the states that its jobs ended in."""
    rows = all_rows(folder, stopped)
    states = {row["status"] for row in rows}
    if (stopped and rows) or states - {NOT_STARTED}:
        table = write_files(folder, rows)
        print("\n".join(["", *describe(table), f"sweep    {folder}"]), flush=True)
    return states


__all__ = [
    "VARIABLE",
    "JobStopped",
    "Journal",
    "TrialPruned",
    "all_rows",
    "conclude",
    "journal",
    "plan",
    "portable",
    "read_rows",
    "recorded",
    "sweep",
    "sweep_folder",
]
