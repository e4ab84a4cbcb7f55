"""From run folders to numbers: states, means, verdicts, the registry."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from distill_cli.errors import UserError
from distill_cli.report.parse import parse_result
from distill_cli.tables import registry
from distill_cli.tables.measured import Number, measure_table
from distill_cli.tables.metrics import MetricSpec, RunFiles, evaluation_file, value_of
from distill_cli.tables.reference import Reference, reference_of
from distill_cli.tables.runs import SeedRun, seed_run, unusable
from distill_cli.tables.spec import make_table
from distill_cli.tables.verdict import interval, judge


@pytest.fixture
def measured(small_table, tmp_path, locate):
    def measure(table=small_table):
        return measure_table(table, lambda cell, seed: seed_run(cell, seed, tmp_path, (), locate))

    return measure


def test_mean_and_spread_over_seeds(small_table, put, measured):
    values = [0.961, 0.967, 0.955]
    for seed, value in enumerate(values):
        put(small_table.cells[0], seed, value)
    found = measured()[0]
    accuracy, baseline = found.numbers
    assert accuracy.mean == pytest.approx(100 * np.mean(values), rel=1e-12)
    assert accuracy.std == pytest.approx(100 * np.std(values, ddof=1), rel=1e-12)
    assert accuracy.n == 3 and baseline.mean == 50 and baseline.std == 0
    assert (found.seconds, found.memory_mb, found.other_versions) == (11, 502, [])
    assert measured()[1].main is None


def test_states(small_table, put, tmp_path, locate):
    cell = small_table.cells[0]
    folder = put(cell, 0, 0.9)

    def state(seed=0):
        return seed_run(cell, seed, tmp_path, (), locate).state

    assert (state(), state(1)) == ("done", "missing")
    result = json.loads((folder / "result.json").read_text())
    other = dict(result, evaluations=[])
    (folder / "result.json").write_text(json.dumps(other))
    assert state() == "unmeasured"
    row = dict(result["evaluations"][0], settings={"ridge": 0.1, "baseline": True})
    (folder / "result.json").write_text(json.dumps(dict(result, evaluations=[row])))
    assert state() == "unmeasured"  # measured with another ridge
    (folder / "result.json").write_text(json.dumps(dict(result, digest="00000000")))
    assert state() == "broken"
    (folder / "result.json").write_text('{"cut')
    assert state() == "broken"
    assert [reason for _, reason in unusable(tmp_path)] == [
        "broken: result.json is not a JSON object"
    ]
    (folder / "result.json").unlink()
    (folder / "checkpoints").mkdir()
    assert state() == "unfinished"


def test_a_folder_in_use_is_running(small_table, put, tmp_path, locate):
    from distill_cli.core.lock import is_locked, locked

    folder = put(small_table.cells[0], 0, 0.9)
    with locked(folder):
        assert is_locked(folder)
        assert seed_run(small_table.cells[0], 0, tmp_path, (), locate).state == "running"
        assert unusable(tmp_path) == [(folder, "running")]
    assert not is_locked(folder)


def test_another_version_is_shown(small_table, put, measured):
    for seed in range(3):
        put(small_table.cells[0], seed, 0.967, version="0.0.7")
    found = measured()[0]
    assert found.other_versions == ["0.0.7"]
    verdict = judge(found, reference_of(small_table, found.cell, None), 0.5)
    assert verdict.status == "pass" and "version 0.0.7" in verdict.reason


def test_a_command_without_a_seed_is_one_run():
    tree = {
        "title": "t", "seeds": [0, 1],
        "columns": {"a": {"command": "distill method=random ipc=1"}},
        "metrics": [{"kind": "accuracy", "protocol": "krr_nngp"}],
    }  # fmt: skip
    table = make_table("t", tree)
    asked = []

    def find(cell, seed):
        asked.append(seed)
        return SeedRun(seed, "missing", "")

    (one,) = measure_table(table, find)
    assert asked == [0] and len(one.runs) == 1


@pytest.mark.parametrize(
    ("accuracy", "status"),
    [(0.967, "pass"), (0.963, "pass"), (0.961, "fail"), (0.9715, "pass"), (0.973, "fail")],
)
def test_published_interval(small_table, put, measured, accuracy, status):
    """96.7 +- 0.2 published, no spread of ours: from 96.2 to 97.2."""
    for seed in range(3):
        put(small_table.cells[0], seed, accuracy)
    found = measured()[0]
    verdict = judge(found, reference_of(small_table, found.cell, None), 0.5)
    assert verdict.status == status


def test_missing_seeds_fail_and_no_figure_does_not(small_table, put, measured):
    put(small_table.cells[2], 0, 0.9)
    one = measured()[2]
    assert judge(one, None, 0.5).failed
    for seed in (1, 2):
        put(small_table.cells[2], seed, 0.9)
    one = measured()[2]
    assert reference_of(small_table, one.cell, None) is None
    assert judge(one, None, 0.5).status == "not found"
    assert judge(one, None, 0.5, "recorded").failed


def test_intervals_by_hand():
    ours = Number(70.0, 0.6, (0, 1, 2, 3))
    published = Reference("published", 71.0, 0.4, 4, "")
    assert interval(published, ours, 0.5, True) == pytest.approx((71 - 0.8 - 0.6, 71 + 0.8 + 0.6))
    recorded = Reference("recorded", 71.0, 0.4, 4, "", (0, 1, 2, 3))
    error = math.hypot(0.2, 0.3)
    assert interval(recorded, ours, 0.5, True) == pytest.approx((70.5 - error, 71.5 + error))
    others = Reference("recorded", 71.0, 0.4, 4, "", (5, 6, 7, 8))
    low, high = interval(others, ours, 10, False)
    assert (high - low) / 2 == pytest.approx(7.1 + 3 * error)


def test_registry_round_trip(small_table, put, measured, tmp_path):
    for seed in range(3):
        put(small_table.cells[0], seed, 0.9 + seed / 100)
    path = tmp_path / "expected.json"
    found = measured()[0]
    entry = registry.entry_of(small_table, found, ())
    registry.record(path, [entry])
    registry.record(path, [dict(entry, overrides="steps=3"), dict(entry, mean=1.0), entry])
    entries = registry.load(path)
    assert [e["overrides"] for e in entries] == ["", "steps=3"]
    kept = registry.find_entry(entries, "small", "mnist/ipc1/fixed", ())
    assert kept == entry
    assert (kept["mean"], kept["std"], kept["seeds"]) == (91.0, 1.0, [0, 1, 2])
    assert (kept["method"], kept["ipc"], kept["preset"]) == ("rfad", 1, "cpu")
    assert kept["memory_mb"] == 502
    assert registry.find_entry(entries, "small", "mnist/ipc10/fixed", ()) is None
    assert judge(found, reference_of(small_table, found.cell, kept), 0.5).status == "pass"
    assert reference_of(small_table, found.cell, None, ["steps=3"]) is None  # not the published one
    path.write_text('{"entries": [{"table": "small"}]}')
    with pytest.raises(UserError, match="not a registry"):
        registry.load(path)


def test_accuracy_at_shares_and_steps(tmp_path):
    """The numbers of a snapshot come from distill-evaluate's file of that very coreset."""

    def files(name: str, scores: list[float]) -> RunFiles:
        folder = tmp_path / name
        (folder / "coreset" / "steps").mkdir(parents=True)
        (folder / "coreset" / "steps" / "000020.npz").write_bytes(b"x")
        lines = [{"step": 10 * i, "valid_accuracy": score} for i, score in enumerate(scores)]
        rates = {3: 0.1, 5: 4, 7: 2, 9: 4}
        lines += [{"step": step, "steps_per_second": rate} for step, rate in rates.items()]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = {"dataset": "digits", "config": {"steps": 100}, "seconds": {"selection": 1.5}}
        return RunFiles(folder, parse_result(result), tmp_path)

    base, run = files("base", [0.1, 0.4, 0.6]), files("run", [0.3, 0.6, 0.7])
    at = MetricSpec(kind="accuracy_at", protocol="krr_nngp", share=0.2)
    assert value_of(at, run) is None
    path = evaluation_file(run, run.folder / "coreset" / "steps" / "000020.npz")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"evaluations": [{"protocol": "krr_nngp", "accuracy": 0.75}]}))
    assert value_of(at, run) == 75
    assert value_of(MetricSpec(kind="accuracy_at", protocol="krr_nngp", share=0.05), run) is None
    steps = MetricSpec(kind="steps_to", reference="base")
    with_base = RunFiles(run.folder, run.result, run.out, {"base": base})
    assert value_of(steps, with_base) == 10
    assert value_of(steps, run) is None
    assert value_of(MetricSpec(kind="selection_seconds"), run) == 1.5
    # Steps a second are 10 0.1 (first, with compilation, left out), 4, 2, 4: a quarter second.
    assert value_of(MetricSpec(kind="step_seconds"), run) == 0.25


def test_numbers_of_another_command(small_table, tmp_path, locate):
    """A study's file: one object per cell with values per seed."""
    from distill_cli.tables.spec import make_table

    table = make_table("t", {
        "title": "t", "command": "distill-theory study=x", "seeds": [0, 2],
        "rows": {"axes": {"m1": [2, 4]}}, "columns": {"a": {}},
        "metrics": [{"kind": "value", "files": ["x.json"], "where": {"m1": "{m1}"}, "key": "mse"}],
    })  # fmt: skip
    assert [cell.name for cell in table.cells] == ["m1=2/a", "m1=4/a"]
    cells = [{"m1": 4, "seeds": [0, 1, 2], "metrics": {"mse": {"values": [0.5, 9, 0.7]}}}]
    Path(tmp_path / "x.json").write_text(json.dumps({"version": "9", "cells": cells}))
    found = measure_table(table, lambda c, s: seed_run(c, s, tmp_path, (), locate))
    assert found[0].main is None
    assert found[1].main.mean == pytest.approx(0.6) and found[1].other_versions == ["9"]
