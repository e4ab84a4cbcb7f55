"""The command distill-table as it is typed."""

import json
import sys

import pytest

from distill_cli.cli import table
from distill_cli.cli.help import entries
from distill_cli.cli.table_options import parse


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """run("show", ...) -> (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "cache"))

    def call(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["distill-table", *arguments])
        capsys.readouterr()
        code = 0
        try:
            table.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shwo"], "command=shwo: unknown (did you mean show?)"),
        (["show", "rfad_9"], "table=rfad_9: unknown (did you mean rfad_1?)"),
        (["show", "rfad_1", "--cells", "stl10"], "rows are mnist/ipc1"),
        (["show", "digits_demo", "--cells", "ipc9"], "choose among ipc1/random"),
        (["show", "digits_demo", "--format", "pdf"], "format=pdf: unknown"),
        (["show", "digits_demo", "--seeds", "a"], "seeds=a: must be whole numbers"),
        (["show", "digits_demo", "--out", __file__], "a file; give a folder"),
        (["show", "digits_demo", "--what"], "--what: unknown option"),
        (["show"], "table: missing; give table=..., see distill-table --help"),
        (["readme", "check=true"], "file: missing"),
        (["list", "table=rfad_1"], "distill-table list takes no table"),
        (["show", "rfad_1", "jobs=2"], "distill-table show takes no jobs; run does"),
        (["show", "rfad_1", "rfad_1"], "rfad_1: unknown option of distill-table show"),
        (["show", "table=rfad_1", "seeds=[0,a]"], "seeds=[0,a]: must be whole numbers"),
        (["run", "table=rfad_1", "jobs=many"], "jobs=many: must be a whole number"),
        (["run", "table=rfad_1", "--jobs"], "--jobs: a value is missing"),
        (["run", "table=rfad_1", "jobs=[1"], "jobs=[1: cannot be read"),
        (["readme", "file=R.md", "check=3"], "check=3: must be true or false"),
        (["readme", "file=R.md", "ipc=3"], "ipc=3: unknown option of distill-table readme"),
        (["verify", "table=rfad_1", "against=x"], "against=x: unknown"),
        (["show", "digits_demo", "--figure", "x.png"], "has no figure"),
        (["show", "rfad_time", "--figure", "x.png"], "nothing of table=rfad_time is measured"),
        (["show", "rfad_time", "--figure", "x.bmp"], "must end in .png"),
        (["run", "digits_demo", "--jobs", "0"], "jobs=0: must be at least 1"),
        (["run", "digits_demo", "ipcc=1"], "did you mean ipc?"),
        (["run", "digits_demo", "--out", "/dev/null/x"], "out=/dev/null/x: /dev/null is a file"),
        (["run", "digits_demo", "kernel.networks=0"], "kernel.networks=0: must be at least 1"),
        (["record", "digits_demo"], "no cell is measured with all its seeds"),
        (["readme", "README.md"], "README.md: no such file"),
        (["verify", "digits_demo", "--against", "x"], "against=x: unknown"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, arguments, message):
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_list_show_and_verify_without_any_run(run):
    code, out, _ = run("list")
    assert code == 0
    for name in ("rfad_1", "rfad_finite", "rfad_time", "kip_1", "kip_finite", "frepo_1", "matching",
                 "selection", "multi_index_d", "cpu_small"):  # fmt: skip
        assert f"\n{name} " in "\n" + out
    code, out, _ = run("show", "rfad_1", "--cells", "cifar10/ipc10/rfad_fixed")
    assert code == 0 and "73.1 ± 0.1 %" in out and "missing" in out
    code, out, _ = run("verify", "rfad_1", "--cells", "cifar10/ipc10/rfad_fixed")
    assert code == 1 and "missing" in out
    code, out, _ = run("verify", "digits_demo", "--against", "recorded", "--expected", "no.json")
    assert code == 1


def test_a_malformed_registry(run, tmp_path):
    (tmp_path / "e.json").write_text(json.dumps({"entries": [{"mean": 1}]}))
    code, _, err = run("verify", "digits_demo", "--expected", "e.json")
    assert code == 2 and "not a registry" in err


FORMS = {
    "name": ("show", ["table=rfad_1"], ["rfad_1"]),
    "cells": ("run", ["table=rfad_1", "cells=cifar10/ipc1,mnist"],
              ["rfad_1", "--cells", "cifar10/ipc1", "--cells=mnist"]),
    "a list of cells": ("run", ["table=rfad_1", "cells=[ipc1, mnist/kip*]"],
                        ["rfad_1", "--cells", "ipc1,mnist/kip*"]),
    "seeds": ("run", ["table=rfad_1", "seeds=[0,2]", "hardware=cpu"],
              ["rfad_1", "hardware=cpu", "--seeds", "0,2"]),
    "one seed": ("run", ["seeds=1", "table=rfad_1"], ["--seeds=1", "rfad_1"]),
    "no seeds": ("run", ["table=rfad_1", "seeds=null"], ["rfad_1"]),
    "a run": ("run", ["table=rfad_1", "jobs=2", "launcher=joblib", "out=o", "ipc=3"],
              ["rfad_1", "--jobs", "2", "--launcher", "joblib", "--out", "o", "ipc=3"]),
    "a page": ("show", ["table=rfad_1", "format=csv", "save=a.csv", "figure=b.png"],
               ["rfad_1", "--format", "csv", "--save", "a.csv", "--figure", "b.png"]),
    "a verdict": ("verify", ["table=rfad_1", "against=published", "expected=e.json"],
                  ["rfad_1", "--against", "published", "--expected", "e.json"]),
    "a file": ("readme", ["file=R.md", "check=true"], ["R.md", "--check"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_settings_and_options_are_the_same(name):
    word, settings, options = FORMS[name]
    assert parse(word, settings) == parse(word, options)
    alone = [text for text in settings if text.startswith(("table=", "file="))]
    assert (parse(word, settings) != parse(word, alone)) == (name not in ("name", "no seeds"))


def test_an_empty_folder_of_results(run):
    for words in (["table=rfad_1", "out="], ["rfad_1", "--out="]):
        code, _, err = run("show", *words)
        assert code == 2 and err == "error: out: empty; give a folder, or . for this one\n"


def test_the_words_are_those_of_the_help():
    page = entries.page("table")
    assert list(page.words) == list(table.COMMANDS)
    assert {word for entry in page.entries for word in entry.of} == {*table.COMMANDS} - {"list"}


def test_both_forms_show_the_same(run):
    old = run("show", "rfad_1", "--cells", "cifar10/ipc10/rfad_fixed", "--format", "csv")
    new = run("show", "table=rfad_1", "cells=cifar10/ipc10/rfad_fixed", "format=csv")
    assert old == new and old[0] == 0 and "73.1" in old[1]


def test_help(run):
    assert "distill-table show table=rfad_1" in run("--help")[1]
    of_run = run("run", "--help")[1]
    assert "jobs=1" in of_run and "against=" not in of_run
    assert run()[1] == run("--help")[1]


@pytest.mark.process
def test_help_and_list_import_nothing_heavy(tmp_path):
    import subprocess

    code = (
        "import sys\nsys.argv = ['distill-table', 'list']\n"
        "from distill_cli.cli.table import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'jax', 'flax', 'matplotlib', 'orbax', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.process
@pytest.mark.slow
def test_a_table_on_digits_end_to_end(run, tmp_path):
    """Run, show, record, verify, README, with the real distill."""
    tiny = ["steps=4", "architecture.width=4", "kernel.networks=1", "validation.networks=1"]
    more = ["--cells", "ipc1", "--seeds", "0", "--out", "o", *tiny, "batch.size=16"]
    code, out, err = run("run", "digits_demo", *more)
    assert code == 0, err
    assert "ipc1/rfad seed 0: done" in out
    assert "2 runs are there, 0 to do" in run("run", "digits_demo", *more)[1]
    assert run("record", "digits_demo", *more, "--expected", "e.json")[0] == 0
    code, out, _ = run("verify", "digits_demo", *more, "--expected", "e.json")
    assert code == 0 and "2 pass" in out
    (tmp_path / "R.md").write_text("<!-- results:digits_demo -->\n<!-- end of results -->\n")
    assert run("readme", "R.md", "--expected", "e.json", "--check")[0] == 1
    assert run("readme", "R.md", "--expected", "e.json")[0] == 0
    assert "| ipc1/rfad (steps=4" in (tmp_path / "R.md").read_text()
