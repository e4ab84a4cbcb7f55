"""Studies: cells are not repeated, a stopped study goes on, the page shows what was measured."""

import json
import re
from pathlib import Path

import pytest

from distill_cli.errors import RunStopped, UserError
from distill_cli.report.theory import write_report
from distill_cli.tasks import theory as task
from distill_cli.theory import study

TINY = study.Study(
    title="A tiny study",
    section="0",
    base={
        "d": 6, "L": 16, "n": 2000, "pool": 128, "batch": 32, "steps": 10, "readout": 500,
        "test": 500, "seed": [0, 1], "measure": [],
    },
    cells=({"d": [5, 6], "m1": [2, 4]}, {"d": [5, 6], "variant": "one_step", "m1": [2, 4]}),
    expected=(
        {
            "metric": "overlap", "rows": "d", "columns": "m1", "at": {"variant": "multi_step"},
            "values": {5: {2: 0.0, 4: 1.1}},
        },
    ),
    x="m1",
    group="d",
    alignment=True,
)  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(study, "load", lambda name: TINY)


def test_a_study_is_computed_once_and_reported(tiny, tmp_path):
    lines: list[str] = []
    first = task.run_study("m1_d", tmp_path, False, lines.append)
    assert len(first["cells"]) == 8 and "8 cells computed" in "\n".join(lines)
    assert "outside: overlap at variant=multi_step d=5 m1=4" in "\n".join(lines)
    assert [item["within"] for item in first["comparison"]] == [True, False]
    again: list[str] = []
    second = task.run_study("m1_d", tmp_path, False, again.append)
    assert "0 cells computed" in "\n".join(again)
    assert second == first
    path = write_report(tmp_path / "theory" / "studies", tmp_path / "page")
    text = path.read_text()
    assert "1 of 2 figures within their bands" in text and "not the paper" in text
    assert "distill-theory study=m1_d" in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing outside the page
    names = {p.name for p in path.parent.glob("*.png")}
    assert {"m1_d_error_multi_step.png", "m1_d_overlap_one_step.png", "alignment.png"} <= names
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    write_report(tmp_path / "theory" / "studies", tmp_path / "page")
    assert before == {p: p.read_bytes() for p in path.parent.iterdir()}
    fits = json.loads((path.parent / "slopes.json").read_text())["m1_d"]
    assert [fit["what"] for fit in fits] == ["M1 against d, multi_step", "M1 against d, one_step"]


def test_a_stopped_study_goes_on(tiny, tmp_path, monkeypatch):
    done: list[Path] = []
    original = task.run_cell

    def interrupted(*arguments):
        import os
        import signal

        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(tmp_path)
        return original(*arguments)

    monkeypatch.setattr(task, "run_cell", interrupted)
    with pytest.raises(RunStopped, match="stopped after 3 of 8 cells"):
        task.run_study("m1_d", tmp_path, False, lambda text: None)
    assert not list(tmp_path.rglob("m1_d.json"))
    lines: list[str] = []
    task.run_study("m1_d", tmp_path, False, lines.append)
    assert "5 cells computed" in "\n".join(lines)


def test_nothing_to_report(tmp_path):
    with pytest.raises(UserError, match="holds no result of a study"):
        write_report(tmp_path, tmp_path / "page")
