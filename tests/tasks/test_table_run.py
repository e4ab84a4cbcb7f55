"""Running tables: children that do as they are told, failures, resuming, signals."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from distill_cli.errors import RunStopped, UserError
from distill_cli.tables import runs
from distill_cli.tables.runs import Located
from distill_cli.tables.spec import make_table
from distill_cli.tasks import table_jobs
from distill_cli.tasks.table import Settings, run_table
from distill_cli.version import __version__

TREE = {
    "title": "t",
    "seeds": [0, 1],
    "rows": {"axes": {"ipc": [1, 2]}},
    "columns": {
        "a": {"command": "distill method=rfad dataset=digits ipc={ipc} seed={seed}"},
        "none": {"not_runnable": "nobody can"},
    },
    "metrics": [{"kind": "accuracy", "protocol": "krr_nngp"}],
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Children that write a result.json, or fail where seed=1 and ipc=2, and a matching locate."""
    script = tmp_path / "child.py"
    script.write_text(
        textwrap.dedent("""
        import json, sys, time
        from pathlib import Path
        given = dict(word.split("=", 1) for word in sys.argv[2:])
        root = Path(sys.argv[0]).parent
        with (root / "calls").open("a") as calls:
            calls.write(" ".join(sys.argv[1:]) + "\\n")
        if (root / "slow").exists():
            time.sleep(0.3)
        if given["ipc"] == "2" and given["seed"] == "1" and not (root / "mended").exists():
            print("error: the disk is on fire", file=sys.stderr)
            sys.exit(2)
        folder = root / "out" / "rfad" / "digits" / f"ipc{given['ipc']}" / f"seed{given['seed']}"
        folder.mkdir(parents=True, exist_ok=True)
        row = {"protocol": "krr_nngp", "accuracy": 0.9, "settings": {}}
        if (root / "empty").exists():
            row = {"protocol": "another"}
        result = {"digest": f"seed{given['seed']}", "version": "VERSION", "evaluations": [row]}
        (folder / "result.json").write_text(json.dumps(result))
    """).replace("VERSION", __version__)
    )
    monkeypatch.setattr(table_jobs, "ATTENDED", [sys.executable, str(script)])

    def locate(overrides):
        given = dict(word.split("=", 1) for word in overrides)
        folder = (
            tmp_path / "out" / "rfad" / "digits" / f"ipc{given['ipc']}" / f"seed{given['seed']}"
        )
        return Located(f"seed{given['seed']}", folder, {})

    monkeypatch.setattr("distill_cli.tables.runs.same_settings", lambda *_: True)

    def run(jobs: int = 1, say=lambda text: None):
        return run_table(make_table("t", TREE), Settings(tmp_path / "out", jobs), locate, say)

    return tmp_path, run


def calls(folder) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.process
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_failing_cell_does_not_lose_the_others_and_is_run_again(world, jobs):
    folder, run = world
    outcome = run(jobs)
    assert (outcome.done, outcome.before) == (3, 0)
    assert outcome.failures == (("ipc2/a seed 1", "exit code 2: error: the disk is on fire"),)
    assert outcome.skipped == ("ipc1/none: nobody can", "ipc2/none: nobody can")
    assert len(calls(folder)) == 4
    assert "the disk is on fire" in (folder / "out/tables/t/ipc2-a-seed1.log").read_text()
    (folder / "mended").touch()
    again = run(jobs)
    assert (again.done, again.before, again.failures) == (1, 3, ())
    assert len(calls(folder)) == 5


@pytest.mark.process
def test_a_command_that_leaves_no_result_is_a_failure(world):
    folder, run = world
    (folder / "empty").touch()
    (folder / "mended").touch()
    outcome = run()
    assert len(outcome.failures) == 4
    assert "ended without the result the table needs (unmeasured)" in outcome.failures[0][1]


@pytest.mark.process
def test_a_wrong_command_is_listed_and_the_others_run(world, monkeypatch):
    folder, run = world
    (folder / "mended").touch()
    real = runs.seed_run

    def find(cell, seed, out, more, locate, thorough=False):
        def wrong(overrides):
            if "ipc=2" in overrides:
                raise UserError("ipc=2: must be odd")
            return locate(overrides)

        return real(cell, seed, out, more, wrong, thorough)

    monkeypatch.setattr("distill_cli.tasks.table.seed_run", find)
    said = []
    outcome = run(say=said.append)
    assert outcome.done == 2
    assert [reason for _, reason in outcome.failures] == ["ipc=2: must be odd"] * 2
    # Before anything runs, and again at the end.
    assert [line.startswith("cannot run: ipc2") for line in said[:3]] == [True, True, False]


@pytest.mark.process
def test_a_signal_stops_and_the_same_command_goes_on(world):
    folder, run = world
    (folder / "mended").touch()

    def say(text: str) -> None:
        if "ipc1/a seed 0: done" in text:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match="the same command goes on") as stopped:
        run(say=say)
    assert stopped.value.code == 143
    outcome = run()
    assert outcome.before >= 1 and outcome.before + outcome.done == 4


@pytest.mark.process
def test_an_attended_command_ends_with_its_starter(tmp_path):
    """The pipe's other end closes when the starter is killed: the run saves its state and ends."""
    command = ["distill", "steps=100000", "architecture.width=4", "kernel.networks=1"]
    command += ["batch.size=16", "validation.networks=1", "validation.patience=100000"]
    command += ["evaluation=none", f"out={tmp_path}", "progress=plain"]
    log = (tmp_path / "log").open("wb")
    child = subprocess.Popen(
        [sys.executable, "-m", "distill_cli.cli.attended", *command],
        stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0,
    )  # fmt: skip
    for _ in range(1200):
        time.sleep(0.1)
        if list(tmp_path.rglob("metrics.jsonl")) or child.poll() is not None:
            break
    child.stdin.close()
    assert child.wait(timeout=120) == 143
    assert "state saved" in (tmp_path / "log").read_text()
    assert not list(tmp_path.rglob("result.json"))
    assert json.loads(next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()[0])
