"""Files of a sweep: sweep.json and sweep.csv, a row for each job; sweep_seeds.csv, a row for each
protocol of jobs that differ in their seeds only. Imports no jax."""

import csv
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_cli.core.files import read_json, write_bytes, write_json
from distill_cli.core.stats import mean_std
from distill_cli.naming import NOT_IN_DIGEST
from distill_cli.report.json_values import number
from distill_cli.report.parse import parse_result
from distill_cli.report.run_result import Evaluation

Row = dict[str, Any]
NOT_STARTED = "not started"
MEASURES = ("accuracy", "baseline", "nll", "ece")
# Overrides without a column: they say where things lie and what is shown.
WITHOUT_COLUMN = tuple(key for key in NOT_IN_DIGEST if key != "evaluation")
FIRST = ("job", "settings", "status", "best_step", "steps", "validation")
LAST = ("seconds", "error", "folder", "command")


@dataclass(frozen=True)
class Line:
    """A job of a sweep.

    about: the columns FIRST and LAST; keys: its overrides, key -> value; measured: protocol ->
    measure -> value, with accuracies and ECE in [0, 1] and NLL in nats.
    """

    about: Mapping[str, Any]
    keys: Mapping[str, Any]
    measured: Mapping[str, Mapping[str, float]]

    def flat(self) -> Row:
        """A row of the files. A key that is also a column of FIRST is called given_<key>."""
        flat: Row = {name: self.about[name] for name in FIRST}
        flat |= {name: found.get("accuracy") for name, found in self.measured.items()}
        flat |= {name: self.about[name] for name in LAST}
        for key, value in self.keys.items():
            flat[f"given_{key}" if key in flat else key] = value
        for name, found in self.measured.items():
            flat |= {f"{name}_{key}": found[key] for key in found if key != "accuracy"}
        return flat


def write_files(folder: Path, rows: Sequence[Row]) -> list[Line]:
    """Write the files of a sweep from its jobs' records; what the table shows."""
    lines = [read(row) for row in varying(rows)]
    table = [line.flat() for line in lines]
    seeds = seed_rows(lines)
    write_json(
        folder / "sweep.json", {"schema": 1, "states": states(lines), "jobs": table, "seeds": seeds}
    )
    names = protocols(lines)
    further = [key for row in table for key in row]
    write_csv(folder / "sweep.csv", table, (*FIRST, *names, *LAST, *further))
    if seeds:
        write_csv(folder / "sweep_seeds.csv", seeds, [key for row in seeds for key in row])
    else:
        (folder / "sweep_seeds.csv").unlink(missing_ok=True)
    return lines


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write rows under a header; what a row lacks stays empty. columns may repeat."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(columns)), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, out.getvalue().encode())


def states(lines: Sequence[Line]) -> dict[str, int]:
    """How many jobs ended in each state, without those that none is in."""
    order = ("done", "pruned", "failed", "stopped", NOT_STARTED)
    found = [line.about["status"] for line in lines]
    return {state: found.count(state) for state in order if state in found}


def varying(rows: Sequence[Row]) -> list[Row]:
    """Rows with "settings": the overrides in which the jobs differ; "-" where there are none, or
    where a search has not chosen them yet."""
    words = [shlex.split(str(row["command"]))[1:] for row in rows]
    known = [own for own in words if own]
    common = set(known[0]).intersection(*known) if len(known) > 1 else set()
    return [
        {**row, "settings": " ".join(word for word in own if word not in common) or "-"}
        for row, own in zip(rows, words, strict=True)
    ]


def read(row: Row) -> Line:
    """A job with its settings, its state, and what its folder says if it is done."""
    result = read_json(Path(row["folder"]) / "result.json") if row["status"] == "done" else None
    result = parse_result(result if isinstance(result, dict) else {})
    validation = result.validation.accuracy
    about = {
        "job": row["job"], "settings": row["settings"], "status": row["status"],
        "best_step": result.best_step, "steps": result.steps,
        "validation": row.get("score") if validation is None else validation,
        "seconds": result.seconds.get("total"), "error": row.get("error", ""),
        "folder": row["folder"], "command": row["command"],
    }  # fmt: skip
    found = {str(e.protocol): measures(e) for e in result.evaluations if e.accuracy is not None}
    return Line(about, keys_of(row["command"]), found)


def measures(evaluation: Evaluation) -> dict[str, float]:
    """Numbers of one protocol: the coreset's and the accuracy of its baselines, real images under
    the same protocol."""
    found = {"accuracy": evaluation.accuracy, "nll": evaluation.nll, "ece": evaluation.ece}
    found["baseline"] = evaluation.real.accuracy
    found |= {f"baseline_{name}": other.accuracy for name, other in evaluation.other_real.items()}
    return {name: value for name, value in found.items() if value is not None}


def keys_of(command: str) -> dict[str, Any]:
    """Overrides of a job as key -> value, without those that say where things lie."""
    keys = {}
    for word in shlex.split(command)[1:]:
        key, equals, value = word.lstrip("+").partition("=")
        if equals and key.partition(".")[0] not in WITHOUT_COLUMN:
            keys[key] = plain(value)
    return keys


def plain(text: str) -> int | float | str:
    """An override's value: a number where it is one, else its text without quotes."""
    for kind in (int, float):
        try:
            found = kind(text)
        except ValueError:
            continue
        return found if math.isfinite(found) else text
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def protocols(lines: Sequence[Line]) -> list[str]:
    """Protocols that any job was measured by."""
    return list(dict.fromkeys(name for line in lines for name in line.measured))


def over_seeds(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Jobs that differ in `seed=` only, under what else their settings say; none where the sweep
    has no seeds."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        words = line.about["settings"].split(" ")
        others = [word for word in words if not word.startswith("seed=")]
        if len(others) < len(words):
            groups.setdefault(" ".join(others) or "all", []).append(line)
    return groups


def seed_rows(lines: Sequence[Line]) -> list[Row]:
    """Rows of sweep_seeds.csv: over the n finished jobs of `jobs`, mean and standard deviation
    (with n - 1) of every measure that all n have; the validation accuracy is a protocol here."""
    rows = []
    for name, group in over_seeds(lines).items():
        done = [line for line in group if line.about["status"] == "done"]
        keys = {key: value for key, value in group[0].keys.items() if key != "seed"}
        valid = [number(line.about["validation"]) for line in done]
        columns = {
            protocol: [line.measured[protocol] for line in done if protocol in line.measured]
            for protocol in protocols(done)
        } | {"validation": [{"accuracy": value} for value in valid if value is not None]}
        for protocol, found in columns.items():
            if not found:
                continue
            row = {"settings": name, "protocol": protocol, "jobs": len(group), "n": len(found)}
            for measure in MEASURES:
                values = [own[measure] for own in found if measure in own]
                full = len(values) == len(found)
                result = mean_std(values) if full else None
                row[f"{measure}_mean"] = result and result.mean
                row[f"{measure}_std"] = result and result.std
            rows.append(row | {k: v for k, v in keys.items() if k not in row})
    return rows
