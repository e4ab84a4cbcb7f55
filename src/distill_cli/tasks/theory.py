"""task theory: cells and studies of the theory bench, as result folders that are never repeated."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.core.coreset_io import sha256
from distill_cli.core.files import read_json, write_json
from distill_cli.core.fingerprint import code_of
from distill_cli.core.lock import locked
from distill_cli.errors import RunStopped, UserError
from distill_cli.naming import digest
from distill_cli.tasks.code import differing, note_changed
from distill_cli.tasks.finished import agreeing, whole
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.runtime import configure_jax, peak_memory_mb
from distill_cli.theory import artefact, compare, study
from distill_cli.theory.bench import Memory, real_points, run_cell, task_of
from distill_cli.theory.config import CellConfig, identity
from distill_cli.theory.links import resolve, warn_without_signal
from distill_cli.theory.metrics import coordinates
from distill_cli.theory.students import error_of
from distill_cli.train.progress import clock
from distill_cli.train.signals import stop_requests
from distill_cli.version import __version__

Result = dict[str, Any]
Say = Callable[[str], None]
SHOWN = (
    "mse_teacher", "mse_lazy", "mse_d1_ridge", "mse_d1_d2", "mse_new_init", "mse_new_init_d2",
    "mse_new_init_span", "mse_equal_memory_real", "overlap", "energy",
)  # fmt: skip
SCHEMA = 2  # of a cell's result; 1 had pairs that were exact negatives
CODE = ("distill_cli.theory.bench", "distill_cli.theory.study")  # what decides a cell's figures
AGREE = 0.01  # relative difference that other hardware may make to an error
SHARED = 40  # things that the cells of studies share, kept at a time
log = logging.getLogger(__name__)


def run(config: CellConfig, out: Path, memory: Memory | None = None) -> Result:
    """One cell: its result, computed or found finished.

    <out>/theory/<digest>/ holds result.json and distilled_seed<k>.npz.
    """
    name = digest(identity(config))
    folder = out / "theory" / name
    code = code_of(CODE)
    if done := finished(folder, name):
        note_changed(folder, differing(done, code), "another out= runs it again")
        return done | {"folder": str(folder), "repeated": True}
    with locked(folder):
        if done := finished(folder, name):  # by a process that has just ended
            return done | {"folder": str(folder), "repeated": True}
        configure_jax()
        warn_without_signal(resolve(config.link, config.r))
        begun = time.monotonic()
        cell = run_cell(config, memory)
        files = {}
        for row, found in zip(cell.rows, cell.artefacts, strict=True):
            path = folder / f"distilled_seed{row['seed']}.npz"
            artefact.save(path, found)
            files[path.name] = sha256(path)
        result: Result = {
            "schema": SCHEMA, "version": __version__, "digest": name,
            "command": study.command(config), "device": device_name(),
            "config": dataclasses.asdict(config), "rows": cell.rows,
            "summary": study.summary(config, cell.rows), "files": files, "code": code,
            "seconds": round(time.monotonic() - begun, 2), "peak_memory_mb": peak_memory_mb(),
        }  # fmt: skip
        write_json(folder / "result.json", result)
    return result | {"folder": str(folder), "repeated": False}


def finished(folder: Path, name: str) -> Result | None:
    """result.json of this cell, if it is of this version and its files are intact."""
    identity = {"digest": name, "version": __version__, "schema": SCHEMA}
    result = agreeing(folder / "result.json", identity)
    if result is None or not result.get("rows") or not result.get("summary"):
        return None
    return result if whole(folder, result["files"]) else None


def show(result: Result) -> str:
    """The result row of a cell, as text."""
    metrics = result["summary"]["metrics"]
    first = result["rows"][0]
    lines = [result["command"]]
    sizes = ("floats_d1", "floats_d2", "floats_affine", "floats", "bytes")
    lines.append("  stored  " + "  ".join(f"{key} {first[key]}" for key in sizes))
    for key in SHOWN:
        if key in metrics:
            found = metrics[key]
            tail = f" ± {found['std']:.4f} (n = {found['n']})" if found["std"] is not None else ""
            lines.append(f"  {key:22s} {found['mean']:.4f}{tail}")
    again = "finished before" if result["repeated"] else f"{result['seconds']:.1f} s"
    lines.append(f"  {again}; {result['folder']}/result.json")
    return "\n".join(lines)


def run_study(
    name: str, out: Path, slow: bool, say: Say, memory: Memory | None = None, seeds: Any = None
) -> Result:
    """All cells of a study, finished ones not repeated; <out>/theory/studies/<name>.json.

    memory: what studies share that run one after another; seeds: other ones than its file names.

    A signal ends the study after the cell at hand; the same command goes on.
    """
    found = study.load(name)
    cells = study.expand(found, slow, seeds)
    memory = memory or Memory(SHARED)
    summaries, spent, fresh = [], 0.0, 0
    say(f"study {name}: {found.title}, {len(cells)} cells")
    with stop_requests() as stop:
        for index, config in enumerate(cells):
            if stop:
                raise RunStopped(
                    f"stopped after {index} of {len(cells)} cells; the same command goes on",
                    stop.exit_code,
                )
            result = run(config, out, memory)
            # Not result["summary"]: an earlier version may have written fewer keys.
            summary = study.summary(config, result["rows"])
            summaries.append(summary | {"digest": result["digest"]})
            if found.alignment:
                summaries[-1]["alignment"] = alignment(config, Path(result["folder"]))
            spent += result["seconds"]
            fresh += 0 if result["repeated"] else 1
            say(line(index, len(cells), result, spent))
    comparison = compare.compare(found, summaries)
    result = {
        "schema": 1, "version": __version__, "study": name, "title": found.title,
        "section": found.section, "x": found.x, "group": found.group,
        "command": study_command(name, slow, seeds),
        "device": device_name(), "seconds": round(spent, 1), "cells": summaries,
        "comparison": comparison,
    }  # fmt: skip
    write_json(out / "theory" / "studies" / f"{name}.json", result)
    judged = [item for item in comparison if item["within"] is not None]
    within = sum(item["within"] for item in judged)
    say(f"study {name}: {within} of {len(judged)} figures within the bands, {fresh} cells computed")
    for item in judged:
        if not item["within"]:
            say(f"  outside: {outside(item)}")
    return result


def study_command(name: str, slow: bool, seeds: Any) -> str:
    """The command that runs a study."""
    parts = [f"distill-theory study={name}"] + ["slow=true"] * slow
    if seeds is not None:
        parts.append(f'"seed={seeds}"'.replace(" ", ""))
    return " ".join(parts)


def alignment(config: CellConfig, folder: Path) -> dict[str, list]:
    """Where the distilled points of a cell's first seed lie in the true basis."""
    file = artefact.load(folder / f"distilled_seed{config.seed[0]}.npz")
    theta = np.asarray(task_of(config, config.seed[0]).theta)
    return coordinates(file.d1()[0], theta)


def outside(item: Result) -> str:
    """A comparison in words."""
    where = " ".join(f"{key}={value}" for key, value in item["at"].items())
    figure = f"{item['measured']:.4f}, {item['side']} {item['limit']:.4f}"
    return f"{item['metric']} at {where}: {figure}{compare.chance(item)}"


def line(index: int, count: int, result: Result, spent: float) -> str:
    """Progress of a study: what was measured, time left."""
    short = ("mse_teacher", "mse_d1_ridge", "mse_d1_d2", "overlap")
    metrics = result["summary"]["metrics"]
    shown = "  ".join(
        f"{key.removeprefix('mse_')} {metrics[key]['mean']:.4f}" for key in short if key in metrics
    )
    left = clock(spent / (index + 1) * (count - index - 1))
    what = result["command"].removeprefix("distill-theory ")
    tail = "" if result["repeated"] else f"  {result['seconds']:.1f} s, {left} left"
    return f"[{index + 1}/{count}] {what}: {shown}{tail}"


def retrain(path: str, say: Say) -> dict[str, float]:
    """Train the student from a distilled file alone and measure it on the task's test points."""
    found = artefact.load(path)
    configure_jax()
    config, meta = artefact.cell_of(found), found.meta
    if "d2_labels" not in found.arrays:
        raise UserError(f"artefact={path}: holds no second layer; make it with measure=[d2]")
    trained = artefact.student(found)
    a = artefact.second_layer(found, trained)
    real = real_points(config, task_of(config, meta["seed"]), Memory())
    error = error_of(found, trained, a, real)
    floats = {part: found.floats(part) for part in artefact.NUMBERS}
    say(f"{path}: {sum(floats.values())} stored numbers ({found.bytes} bytes): {floats}")
    say(f"relative MSE of the student trained from this file: {error!r}")
    recorded = recorded_error(Path(path), meta["seed"])
    if recorded is not None:
        say(f"recorded by the run that made it:                  {recorded!r}")
        if not math.isclose(error, recorded, rel_tol=AGREE):
            raise UserError(
                f"artefact={path}: does not give the recorded error; its link {meta['link']} "
                "or this program changed since"
            )
    return {"mse_d1_d2": error, **{f"floats_{k}": v for k, v in floats.items()}}


def recorded_error(path: Path, seed: int) -> float | None:
    """mse_d1_d2 in the result beside a distilled file."""
    result = read_json(path.expanduser().parent / "result.json")
    rows = result.get("rows", []) if isinstance(result, dict) else []
    return next((row.get("mse_d1_d2") for row in rows if row.get("seed") == seed), None)
