"""The command distill-table as it is typed."""

import json
import sys

import pytest

from distill_cli.cli import table


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
        (["show"], "see distill-table --help"),
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
