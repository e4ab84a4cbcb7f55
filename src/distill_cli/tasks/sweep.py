"""task sweep: what the jobs of `distill -m` came to, in one table at the end.

Every job, in whatever process or on whatever machine, writes <folder>/jobs/<number>.json when it
begins and when it ends; the process that started the sweep reads them at its end, also when jobs
failed. <folder> is <out>/sweeps/<digest of the command>, handed down in the environment variable
DISTILL_SWEEP. Imports no jax.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_cli.core.files import read_json, write_bytes, write_json
from distill_cli.core.lock import emptied, holding
from distill_cli.report.results import evaluations, number, section
from distill_cli.report.words import NONE, duration
from distill_cli.tables.render import aligned
from distill_cli.train.tracking import StopTraining

VARIABLE = "DISTILL_SWEEP"
Row = dict[str, Any]


class TrialPruned(StopTraining):
    """A trial that was stopped because others are better; score: its best validation accuracy."""

    def __init__(self, message: str, score: float) -> None:
        super().__init__(message)
        self.score = score


@contextlib.contextmanager
def sweep(arguments: Sequence[str]) -> Iterator[None]:
    """Around the whole of a command: prints and writes the table where it was a sweep."""
    if not {"-m", "--multirun"} & set(arguments) or {"--cfg", "-c", "--help"} & set(arguments):
        yield
        return
    folder = sweep_folder(arguments)
    taken = f"{folder}: this same sweep is running"
    with emptied(folder), holding(folder / "sweep.lock", taken, keep=False):
        for old in folder.glob("jobs/*.json"):
            old.unlink(missing_ok=True)
        former = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(folder)
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if former is not None:
                os.environ[VARIABLE] = former
            rows = read_rows(folder)
            if rows:
                print(conclude(folder, rows), flush=True)


def sweep_folder(arguments: Iterable[str]) -> Path:
    """<out>/sweeps/<digest>: the same command, the same folder."""
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    out = given.get("hydra.sweep.dir", given.get("out", "outputs")).strip("'\"") or "."
    words = sorted(word for word in arguments if not word.startswith(("out=", "hydra.")))
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]
    return Path(out).expanduser().absolute() / "sweeps" / digest


@dataclass(frozen=True)
class Journal:
    """The record of one job of a sweep."""

    path: Path
    about: Mapping[str, Any]

    def write(self, status: str, **more: Any) -> None:
        """status: running, done, failed, pruned or stopped."""
        write_json(self.path, {**self.about, "status": status, **more})


def journal(job: object, command: str, folder: Path) -> Journal | None:
    """The record of this process's job; None outside of a sweep."""
    place = os.environ.get(VARIABLE)
    if not place:
        return None
    about = {"job": job, "command": command, "folder": str(folder.absolute())}
    return Journal(Path(place) / "jobs" / f"{job}.json", about)


@contextlib.contextmanager
def recorded(book: Journal | None) -> Iterator[None]:
    """Around a job: what it failed of is recorded, and raised."""
    if book is None:
        yield
        return
    book.write("running")
    try:
        yield
    except TrialPruned as error:
        book.write("pruned", score=error.score, error=" ".join(str(error).split()))
        raise
    except BaseException as error:
        kind = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        text = " ".join(str(error).split()) or type(error).__name__
        book.write(kind, error=text)
        raise


def read_rows(folder: Path) -> list[Row]:
    """Records of all jobs, in their order; what is not JSON is left out."""
    found = [read_json(path) for path in folder.glob("jobs/*.json")]
    rows = [row for row in found if isinstance(row, dict) and "command" in row]
    return sorted(rows, key=lambda row: str(row["job"]).zfill(9))


def conclude(folder: Path, rows: Sequence[Row]) -> str:
    """Write sweep.json and sweep.csv; the table, the means over seeds and the failures as text."""
    table = [flat(row) for row in varying(rows)]
    write_json(folder / "sweep.json", {"schema": 1, "jobs": table})
    keys = list(dict.fromkeys(key for row in table for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_bytes(folder / "sweep.csv", out.getvalue().encode())
    return "\n".join(
        ["", *text_table(table), *seed_means(table), *ending(table), f"sweep    {folder}"]
    )


def varying(rows: Sequence[Row]) -> list[Row]:
    """Rows with "settings": the overrides in which the jobs differ."""
    words = [shlex.split(str(row["command"]))[1:] for row in rows]
    common = set(words[0]).intersection(*words) if len(rows) > 1 else set()
    return [
        {**row, "settings": " ".join(word for word in own if word not in common) or "-"}
        for row, own in zip(rows, words, strict=True)
    ]


def flat(row: Row) -> Row:
    """One row of the CSV: settings, status, scores, cost."""
    result = read_json(Path(row["folder"]) / "result.json") if row["status"] == "done" else None
    result = result if isinstance(result, dict) else {}
    measured = {
        str(e.get("protocol")): e["accuracy"] for e in evaluations(result) if "accuracy" in e
    }
    validation = number(section(result, "validation").get("accuracy"))
    return {
        "job": row["job"], "settings": row["settings"], "status": row["status"],
        "best_step": result.get("best_step"), "steps": result.get("steps"),
        "validation": row.get("score") if validation is None else validation, **measured,
        "seconds": section(result, "seconds").get("total"), "error": row.get("error", ""),
        "folder": row["folder"], "command": row["command"],
    }  # fmt: skip


def protocols(table: Sequence[Row]) -> list[str]:
    """Columns of the table that are test accuracies."""
    fixed = {
        "job", "settings", "status", "best_step", "steps", "validation", "seconds", "error",
        "folder", "command",
    }  # fmt: skip
    return list(dict.fromkeys(key for row in table for key in row if key not in fixed))


def text_table(table: Sequence[Row]) -> list[str]:
    """One aligned line per job."""
    names = protocols(table)
    head = ("settings", "status", "steps", "validation", *names, "time")

    def shown(value: object) -> str:
        found = number(value)
        return NONE if found is None else f"{100 * found:.2f} %"

    rows = tuple(
        (
            row["settings"], row["status"], NONE if row["steps"] is None else str(row["steps"]),
            shown(row["validation"]), *(shown(row.get(name)) for name in names),
            duration(row["seconds"]),
        )
        for row in table
    )  # fmt: skip
    return aligned(head, rows)


def seed_means(table: Sequence[Row]) -> list[str]:
    """Mean and deviation over the seeds of jobs that are alike otherwise."""
    groups: dict[str, list[Row]] = {}
    for row in table:
        words = [word for word in row["settings"].split(" ") if not word.startswith("seed=")]
        if row["status"] == "done" and len(words) < len(row["settings"].split(" ")):
            groups.setdefault(" ".join(words) or "all", []).append(row)
    lines = []
    for name, rows in groups.items():
        parts = []
        for protocol in protocols(rows):
            values = [100 * row[protocol] for row in rows if number(row.get(protocol)) is not None]
            if len(values) > 1:
                spread = statistics.stdev(values)
                parts.append(f"{protocol} {statistics.mean(values):.2f} ± {spread:.2f} %")
        if parts:
            lines.append(f"  over {len(rows)} seeds, {name}: {', '.join(parts)}")
    return ["", *lines] if lines else []


def ending(table: Sequence[Row]) -> list[str]:
    """The best trial by its validation score, and what failed."""
    lines = []
    searched = [row for row in table if "search=" in row["command"]]
    scored = [row for row in searched if number(row["validation"]) is not None]
    if scored:
        over = [row for row in scored if row["status"] == "done"]
        best = max(over or scored, key=lambda row: row["validation"])
        words = [
            w for w in shlex.split(best["command"]) if not w.startswith(("search=", "tuning."))
        ]
        lines.append(f"best validation: {best['settings']}; to measure it on test data:")
        lines.append(f"  {shlex.join([*words, 'validation.disjoint=true'])}")
    failed = [row for row in table if row["status"] not in ("done", "pruned")]
    if failed:
        lines.append(f"{len(failed)} of {len(table)} jobs failed:")
        for row in failed:
            why = row["error"] or "did not end; its process was lost"
            lines.append(f"  {row['settings']}: {why}")
    return ["", *lines] if lines else []
