"""--help, help KEY and --version of every command: what they say, wrong words, a light start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill_cli.cli.help import entries
from distill_cli.cli.help.values import composed
from distill_cli.config import group_choices
from distill_cli.version import __version__

COMMANDS = list(entries.FILES)
HEAVY = {"jax", "flax", "tensorflow", "orbax", "matplotlib", "sklearn", "scipy"}
INTERNAL = [group.group for group in entries.page("distill").groups if group.internal]


def head(program: str, words: str, lines: int) -> subprocess.CompletedProcess:
    """`program words | head -lines` in a shell that reports the first command that fails."""
    module = program.removeprefix("distill-")
    line = f"{sys.executable} -m distill_cli.cli.{module} {words} | head -{lines}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False
    )


@pytest.mark.process
@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_version_start_light(tmp_path, name):
    """One process each: --help, help of a key, --version; jax is not loaded, nothing is written."""
    key = next(iter(entries.page(entries.FILES[name][0]).entries)).key
    asked = [["--help"], ["help", key], ["--version"]]
    code = (
        "import json, sys\n"
        f"from distill_cli.cli.{name.removeprefix('distill-')} import main\n"
        f"for words in {asked!r}:\n"
        f"    sys.argv = [{name!r}, *words]\n"
        "    main()\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *told, modules = done.stdout.strip().splitlines()
    assert not {module.partition(".")[0] for module in json.loads(modules)} & HEAVY
    assert told[0].startswith(f"{name} {__version__}. ")
    assert told[-1] == f"{name} {__version__}"
    assert done.stderr == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("columns", "most"), [("20", 80), ("100", 100), ("300", 100)])
def test_every_page_says_what_it_does_and_fits(command, monkeypatch, name, columns, most):
    monkeypatch.setenv("COLUMNS", columns)
    done = command(name, "--help")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= most
    page = entries.page(entries.FILES[name][0])
    text = " ".join(done.out.split())
    assert " ".join(page.about.split()) in text
    assert "Needs " in text and f"{name} help KEY" in text
    for title in ("Usage", "Examples", "Keys with their values here"):
        assert any(line.startswith(title) for line in lines)
    assert len(page.examples) >= (5 if name == "distill" else 2)
    for example, _ in page.examples:
        assert " ".join(example.split()) in text
        assert example.startswith(name)
    assert command(name, "-h").out == command(name, "help").out == done.out


def test_distill_lists_public_choices_and_keys_and_hides_what_is_internal(command):
    done = command("distill", "--help")
    text = " ".join(done.out.split())
    heads = {
        line.split()[0]
        for line in done.out.splitlines()
        if line.startswith("  ") and line[2:3] != " "
    }
    for group in entries.page("distill").groups:
        if group.internal:
            assert group.group not in heads
            continue
        assert group.group in heads
        for name in group_choices(group.group):
            assert name in text
    assert not {"table", "theory", "apply"} & heads
    assert "ipc=1" in heads and "steps=400" in heads  # of the recipe that the command takes
    for entry in entries.page("distill").entries:
        if entry.key in ("ipc", "batch.size", "loss", "evaluation.finite.batch"):
            assert " ".join(entry.meaning.split()) in text
    assert "platt | mse" in text


def test_help_follows_the_chosen_method_and_values(command):
    words = command("distill", "method=frepo", "dataset=mnist", "ipc=10", "--help").out
    assert "method.pool=10" in words and "method.jackknife" not in words
    assert "ipc=10" in words and "kernel.precision" not in words
    assert "LAMB" in words and "AdaBelief" not in words
    steps = composed("config", {"method": "frepo", "dataset": "mnist"}, {"ipc": 10}).tree["steps"]
    assert f"steps={steps}" in words
    several = command("distill", "evaluation=[dsa,krr_ntk]", "--help").out
    assert "evaluation.dsa.epochs=null" in several and "evaluation.finite" not in several


def test_one_application_and_one_word_of_a_table(command):
    privacy = command("distill-apply", "privacy", "--help").out
    assert "rho=[0,0.4,0.8,0.95]" in privacy and "chunks=" not in privacy
    assert "subspace.k=null" in command("distill-theory", "subspace", "--help").out
    assert "check=false" in command("distill-table", "readme", "-h").out


CASES = {
    "a key": (
        "distill",
        "ipc",
        ["images per class", "a whole number", "at least 1", "distill ipc=10"],
    ),
    "a key that methods mean differently": (
        "distill",
        "method.ridge",
        ["1e-6", "0.005", "validation score", "method=dc"],
    ),
    "a key of some components": (
        "distill",
        "init.lam",
        ["krr_sensitivity | one_per_cluster", "distill init=krr_sensitivity init.lam"],
    ),
    "a key that recipes set": (
        "distill",
        "steps",
        ["100000", "500000 with method=frepo", "by ipc"],
    ),
    "a key of a protocol": (
        "distill",
        "evaluation.dsa.epochs",
        ['"evaluation=[dsa]"', "1000 with aug"],
    ),
    "names with meanings": (
        "distill",
        "rerun",
        ["never: both are taken", "docs/results_folder.md"],
    ),
    "a key with a value": ("distill", "seed=3", ["decides every random number"]),
    "a plus": ("distill", "+dataset.class_names", ["names of the classes"]),
    "a group": ("distill", "method", ["RFAD: random-feature", "Label Solve", "method.pool"]),
    "a choice": (
        "distill",
        "method=rfad",
        ["arXiv 2210.12067", "method.jackknife=0", "recipes", "celeba"],
    ),
    "a choice that sets other keys": ("distill", "method=kip", ["kernel=ntk", "batch.size=5000"]),
    "choices in a list": ("distill", "evaluation=[dsa,dc]", ["evaluation=dsa", "evaluation=dc"]),
    "a name of two groups": (
        "distill",
        "frepo",
        ["method=frepo", "preprocess=frepo", "evaluation=frepo"],
    ),
    "a section": ("distill", "batch", ["batch.size=1280", "batch.micro=null"]),
    "a section inside a group": (
        "distill",
        "evaluation.finite",
        ["evaluation.finite.patience=500"],
    ),
    "an internal group": ("distill", "recipe", ["published values", "not meant to be typed"]),
    "of what it inherits": ("distill-evaluate", "evaluation.limit", ["exact kernels"]),
    "a shorter name": ("distill-evaluate", "coreset", ["coreset.path", "what to measure"]),
    "an application": ("distill-apply", "membership", ["chunk=10000"]),
    "a name in two tables": (
        "distill-apply",
        "kernel",
        ["apply.kernel", "kernel of the regression"],
    ),
    "of the second file": ("distill-theory", "subspace.k", ["directions compared"]),
    "of no configuration": (
        "distill-report",
        "images",
        ["5", "at least 1", "distill-report runs=outputs"],
    ),
    "of a word": ("distill-table", "jobs", ["distill-table run", "jobs=2"]),
    "a word": ("distill-table", "verify", ["against=auto"]),
}


@pytest.mark.parametrize("name", CASES)
def test_help_of(command, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    program, word, said = CASES[name]
    done = command(program, "help", word)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 100
    text = " ".join(done.out.split())
    for part in said:
        assert part in text, part


def test_every_key_can_be_asked_for(command):
    for name in COMMANDS:
        for file in entries.FILES[name]:
            keys = list(dict.fromkeys(entry.key for entry in entries.page(file).entries))
            done = command(name, "help", *keys)
            assert (done.code, done.err) == (0, "")
            for key in keys:
                assert key in done.out


WRONG = {
    "a letter missing": (
        "distill",
        ["metod"],
        "metod: no key, group or choice; did you mean method",
    ),
    "the last part": ("distill", ["ridge"], "or did you mean method.ridge or eval"),
    "a wrong last part": ("distill", ["kernel.network"], "kernel.networks"),
    "a wrong choice": ("distill", ["method=rfda"], "method=rfda: unknown (did you mean rfad?)"),
    "a wrong name": ("distill", ["loss=hinge"], "loss=hinge: unknown; choose one of mse, platt"),
    "of another command": (
        "distill",
        ["rho"],
        "no key of distill; distill-apply help rho explains",
    ),
    "one of two": ("distill", ["ipc", "steeps"], "steeps: no key"),
    "unicode": ("distill", ["größe"], "größe: no key"),
    "nothing like it": ("distill", ["@@@"], "@@@: no key, group or choice; distill --help lists"),
    "an empty word": ("distill", [""], "'': no key, group or choice"),
    "only an equals sign": ("distill", ["="], "no key, group or choice"),
    "control characters": ("distill", ["a\x1b[31m\nb"], "a?[31m?b"),
    "a path": ("distill", ["../../etc"], "../../etc: no key"),
    "very long": ("distill", ["x" * 100_000], f"{'x' * 60}...: no key"),
    "a long value": ("distill", ["method=" + "x" * 100_000], "choose one of dc"),
    "an internal choice": ("distill", ["recipe=x"], "recipe=x: unknown"),
    "of a table": ("distill-table", ["seed"], "or did you mean seeds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words_behind_help(command, tmp_path, name):
    program, words, said = WRONG[name]
    done = command(program, "help", *words)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: ") and said in line
    assert len(line) < 500
    assert not list(tmp_path.iterdir())


def test_a_wrong_choice_beside_help_is_named(command):
    done = command("distill", "dataset=minst", "--help")
    assert done.code == 2 and "dataset=minst: unknown (did you mean mnist?)" in done.err
    # What is wrong elsewhere does not keep the help away.
    assert command("distill", "ipcc=[1", "ipc={", "--help").code == 0


@pytest.mark.process
@pytest.mark.parametrize("words", ["--help", "help method.ridge steps rerun method", "--version"])
def test_a_reader_that_has_enough(words):
    done = head("distill", words, 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_of_several_processes_the_first_answers(command, monkeypatch):
    for name, value in (("JAX_COORDINATOR_ADDRESS", "localhost:1"), ("JAX_NUM_PROCESSES", "2")):
        monkeypatch.setenv(name, value)
    for index in ("0", "1"):
        monkeypatch.setenv("JAX_PROCESS_ID", index)
        done = command("distill", "help", "ipc")
        assert (done.code, bool(done.out)) == (0, index == "0")


@pytest.mark.process
def test_hydra_still_composes_sweeps_and_completes(tmp_path):
    def run(*words: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "distill_cli.cli.distill", *words], cwd=tmp_path,
            capture_output=True, text=True, check=True, env=os.environ | environment,
        )  # fmt: skip
        return done.stdout

    assert "name: frepo" in run("method=frepo", "--cfg", "job")
    assert "Hydra" in run("--hydra-help")
    completed = run("-sc", "query=bash", COMP_LINE="distill method=fr", COMP_POINT="17")
    assert completed.split() == ["method=frepo"]
    tiny = ["method=random", "evaluation=none", "progress=none", "seed=0,1"]
    assert run("-m", *tiny).count("== job") == 2


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words", [("--help",), ("help", "ipc"), ("--cfg", "job"), ("method=random", "evaluation=none")]
)
def test_an_output_that_cannot_be_written_is_one_line(tmp_path, words):
    command = [sys.executable, "-m", "distill_cli.cli.distill", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the output: No space left on device\n"


@pytest.mark.process
@pytest.mark.parametrize("words", ["--help", "help ipc", "--version"])
def test_a_closed_output_is_silent(tmp_path, words):
    line = f"{sys.executable} -m distill_cli.cli.distill {words} >&-"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
