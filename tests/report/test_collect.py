"""Finding runs: finished ones are taken; broken, running and foreign ones are named, and why."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from distill_cli.errors import UserError
from distill_cli.report.collect import collect
from distill_cli.tables.runs import unusable
from distill_cli.version import __version__
from run_folders import change, make_runs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return make_runs(tmp_path / "outputs")


def reasons(folder: Path) -> dict[str, str]:
    return {s.folder.name: s.reason for s in collect([folder]).skipped}


def test_all_finished_runs_are_found_at_any_depth(runs: Path) -> None:
    found = collect([runs])
    assert len(found.runs) == 5
    assert found.skipped == ()
    order = [(r.result.method, r.result.seed) for r in found.runs]
    assert order == [("kip", 0), ("kip", 1), ("rfad", 0), ("rfad", 1), ("rfad", 2)]
    assert all(run.notes == () for run in found.runs)
    assert len(collect([runs / "rfad", runs / "kip", runs]).runs) == 5  # each once


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda run: (run / "result.json").write_text('{"schema": 1, "ver'), "not a JSON object"),
        (lambda run: (run / "result.json").write_text("[1, 2]"), "not a JSON object"),
        (lambda run: (run / "result.json").unlink(), "unfinished: no result.json"),
        (lambda run: change(run, evaluations=[], config=ASKED), "not evaluated yet"),
        (lambda run: change(run, evaluations="none"), "no list of objects"),
        (lambda run: change(run, evaluations=[{"protocol": "x", "accuracy": 1.7}]), "x is 1.7"),
        (lambda run: change(run, evaluations=[{"protocol": "x", "accuracy": None}]), "x is None"),
        (lambda run: change(run, schema=2), "schema 2"),
        (lambda run: (run / "coreset" / "coreset.npz").write_bytes(b"cut"), "SHA-256"),
        (lambda run: (run / "result.json").write_text('{"loss": 1}'), "foreign: result.json with"),
    ],
)  # fmt: skip
def test_what_is_no_finished_run_is_named(runs: Path, break_it, reason: str) -> None:
    run = runs / "rfad" / "seed0"
    break_it(run)
    found = collect([runs])
    assert len(found.runs) == 4
    assert [s.folder for s in found.skipped] == [run.resolve()]
    assert reason in found.skipped[0].reason


def test_results_of_the_theory_and_the_applications_are_left_out(runs: Path) -> None:
    other = runs / "theory" / "abcd"
    other.mkdir(parents=True)
    (other / "result.json").write_text('{"command": "distill-theory d=20"}')
    found = collect([runs])
    assert len(found.runs) == 5 and found.skipped == ()
    assert unusable(runs) == []


ASKED = {"evaluation": {"protocols": {"krr_ntk": {}}}}


def test_a_run_whose_process_lives_is_running(runs: Path) -> None:
    run = runs / "rfad" / "seed0"
    (run / "result.json").unlink()
    with (run / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "still running" in reasons(runs)["seed0"]
        (runs / "rfad" / "seed1" / ".lock").touch()  # left behind, held by nobody
        assert "seed1" not in reasons(runs)
    assert "unfinished" in reasons(runs)["seed0"]


def test_copies_count_once(runs: Path) -> None:
    shutil.copytree(runs / "rfad" / "seed0", runs / "rfad" / "copy")
    found = collect([runs])
    assert len(found.runs) == 5
    assert [s.reason.partition(":")[0] for s in found.skipped] == [
        f"the same run (settings and seed) as {(runs / 'rfad' / 'copy').resolve()}"
    ]


def test_of_copies_the_one_without_notes_counts(runs: Path) -> None:
    copy = runs / "rfad" / "copy"
    shutil.copytree(runs / "rfad" / "seed0", copy)
    (copy / "coreset" / "coreset.npz").unlink()
    found = collect([runs])
    assert copy.resolve() in [s.folder for s in found.skipped]
    assert (runs / "rfad" / "seed0").resolve() in [r.folder for r in found.runs]


def test_notes_on_version_missing_protocols_and_coreset(runs: Path) -> None:
    run = runs / "rfad" / "seed0"
    both = {"krr_nngp": {}, "krr_ntk": {}, "finite": {}}
    change(run, version="0.0.7", config={"evaluation": {"protocols": both}})
    (run / "coreset" / "coreset.npz").unlink()
    (noted,) = [r for r in collect([runs]).runs if r.notes]
    assert noted.notes == (
        f"made by version 0.0.7, this is {__version__}",
        "evaluation unfinished: finite, krr_nngp missing",
        "its coreset is not at coreset/coreset.npz: no pictures",
    )


def test_evaluations_of_coreset_files_are_taken(runs: Path) -> None:
    place = runs / "evaluate" / "digits" / "file-1234"
    place.mkdir(parents=True)
    row = {"protocol": "krr_ntk", "accuracy": 0.5, "n": 1, "std": None}
    value = {
        "schema": 1, "version": __version__, "command": "distill-evaluate", "dataset": "cifar10",
        "ipc": 2, "method": None, "coreset": {"path": "/elsewhere/x.pt", "sha256": "0"},
        "config": {"seed": 3, "labels": "fixed", "init": {"name": "random"}}, "evaluations": [row],
    }  # fmt: skip
    (place / "evaluation.json").write_text(json.dumps(value))
    (found,) = [r for r in collect([runs]).runs if r.folder == place.resolve()]
    assert (found.result.seed, found.result.init) == (3, "random")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no such folder"):
        collect(["/nowhere/at/all"])
