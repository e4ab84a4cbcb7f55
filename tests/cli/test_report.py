"""The command distill-report: what it writes and prints, wrong input, a light start."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_cli.cli import report
from run_folders import change, make_runs


@pytest.fixture
def command(monkeypatch, tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    """command("outputs", "out=site") -> (exit code, stdout, stderr), in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["distill-report", *arguments])
        try:
            report.main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_one_page_and_a_line_for_what_was_passed_over(command, tmp_path: Path) -> None:
    runs = make_runs(tmp_path / "outputs")
    (runs / "kip" / "seed0" / "result.json").write_text("{")
    change(runs / "rfad" / "seed1", version="0.0.7")
    code, out, err = command(
        "outputs/rfad", "outputs/kip", "out=site", "figures=false", "title=A b"
    )
    assert (code, err) == (0, "")
    passed, note, last = out.splitlines()
    assert passed.startswith("skipped: ") and "kip/seed0: broken" in passed
    assert note.startswith("note: ") and "made by version 0.0.7" in note
    assert last.startswith("report   site/index.html (4 runs, ")
    assert [p.name for p in (tmp_path / "site").iterdir()] == ["index.html"]
    text = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "<h1>A b</h1>" in text
    assert command("outputs", "out=site", "figures=false")[0] == 0  # our own page is replaced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs: missing"),
        (["nowhere"], "nowhere: no such folder"),
        (["runs="], "runs: missing; give a folder"),
        (["runs=nowhere"], "nowhere: no such folder"),
        (["runs=[outputs"], "runs=[outputs: cannot be read"),
        (["--out", "site"], "--out: no such option; settings are typed without dashes"),
        (["empty"], "empty: no finished run"),
        (["outputs", "outt=x"], "key=outt: unknown (did you mean out?)"),
        (["outputs", "images=0"], "images=0: must be at least 1"),
        (["outputs", "images=many"], "images=many: must be a whole number"),
        (["outputs", "figures=[1"], "figures=[1: cannot be read"),
        (["outputs", "out=empty/file"], "out=empty/file: a file"),
        (["outputs", "out=other"], "holds an index.html of something else"),
    ],
)
def test_wrong_input_is_one_line(command, tmp_path: Path, arguments, message: str) -> None:
    make_runs(tmp_path / "outputs")
    for name in ("empty/file", "other/index.html"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["outputs/rfad", "outputs/kip"],
        ["runs=outputs/rfad", "runs=outputs/kip"],
        ["runs=outputs/rfad,outputs/kip"],
        ["runs=[outputs/rfad, outputs/kip]"],
        ["runs=outputs/rfad", "outputs/kip"],
    ],
)
def test_folders_stand_alone_or_behind_runs(arguments) -> None:
    assert report.split([*arguments, "images=3"]) == {
        "runs": ["outputs/rfad", "outputs/kip"], "images": 3,
    }  # fmt: skip


def test_a_folder_with_a_comma_and_the_same_page(command, tmp_path: Path) -> None:
    make_runs(tmp_path / "a,b")
    assert report.split(["runs=a,b"]) == {"runs": ["a,b"]}
    assert command("runs=a,b", "out=new", "figures=false")[0] == 0
    assert command("a,b", "out=old", "figures=false")[0] == 0
    new, old = (tmp_path / name / "index.html" for name in ("new", "old"))
    assert new.read_bytes() == old.read_bytes()


def test_a_folder_without_finished_runs_says_why(command, tmp_path: Path) -> None:
    (tmp_path / "outputs" / "a").mkdir(parents=True)
    (tmp_path / "outputs" / "a" / "metrics.jsonl").touch()
    code, _, err = command("outputs")
    assert code == 2
    assert "no finished run; skipped" in err and "unfinished" in err


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["nowhere"], ["outputs", "figures=false"]])
def test_nothing_heavy_is_imported(tmp_path: Path, arguments) -> None:
    make_runs(tmp_path / "outputs")
    heavy = ("jax", "flax", "matplotlib", "sklearn", "tensorflow", "scipy")
    code = (
        "import atexit, json, sys\n"
        f"atexit.register(lambda: print(json.dumps([m for m in {heavy} if m in sys.modules])))\n"
        f"sys.argv = {['distill-report', *arguments]!r}\n"
        "from distill_cli.cli.report import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr


def test_a_value_in_quotes_is_one_folder(command, tmp_path: Path) -> None:
    make_runs(tmp_path / "a, b")
    code, _, err = command("runs='a, b'", "out=site", "figures=false")
    assert code == 0, err
