"""The campaign of scripts/gpu_check.py: its budget, its children, its files, and a rehearsal."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The folder gpu_stages as a package, for this file only."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def program():
    """scripts/gpu_check.py as a module."""
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPTS / "gpu_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_shares_reserve_and_rest():
    """Fixed shares while there is time; d takes what e and f leave; nobody exceeds the budget."""
    from gpu_stages.budget import CLOSING, SHARES, Budget

    clock = Clock()
    budget = Budget(500, clock)
    assert budget.limit("a", list("bcdef")) == pytest.approx(500 * SHARES["a"])
    kept = 500 * (SHARES["e"] + SHARES["f"])
    clock.now += 200
    assert budget.limit("d", ["e", "f"]) == pytest.approx(300 - CLOSING - kept)
    assert budget.limit("d", ["f"]) == pytest.approx(300 - CLOSING - 500 * SHARES["f"])
    assert budget.limit("d", []) == budget.limit("b", []) == pytest.approx(300 - CLOSING)
    clock.now += 300 - CLOSING - kept - 5  # b is late: it gets what is not reserved
    assert budget.limit("b", list("cdef")) == pytest.approx(5)
    assert budget.limit("e", ["f"]) == pytest.approx(500 * SHARES["e"] + 5)
    clock.now += 1000
    assert budget.limit("b", list("ef")) == budget.limit("f", []) == budget.left() == 0


def test_seconds_that_are_given():
    """A stage with its own seconds gets them while they last, and stages before it leave them."""
    from gpu_stages.budget import CLOSING, Budget

    clock = Clock()
    budget = Budget(300, clock, {"a": 90, "c": 40})
    assert budget.limit("a", list("bcd")) == 90
    assert budget.limit("d", ["c"]) == pytest.approx(300 - CLOSING - 40)
    clock.now += 300 - CLOSING - 30
    assert budget.limit("c", []) == pytest.approx(30)


def test_all_limits_together_stay_within_the_budget():
    """Every stage using all that it may, the last ends CLOSING seconds before the end."""
    from gpu_stages.budget import CLOSING, STAGES, Budget

    clock = Clock()
    budget = Budget(540, clock)
    clock.now += 12  # the record card
    taken = {}
    for at, stage in enumerate(STAGES):
        taken[stage] = budget.limit(stage, STAGES[at + 1 :])
        clock.now += taken[stage]
    assert budget.spent() == pytest.approx(540 - CLOSING)
    assert min(taken.values()) > 35 and taken["d"] > 140


def test_plain_values(tmp_path):
    """Arrays' scalars, NaN and rows that fail become JSON; the file is whole after each."""
    from gpu_stages.record import Record

    record = Record(tmp_path / "r.json")
    record.put(a=np.float32(0.5), b=float("nan"), c=np.int64(3), d=np.bool_(True), e=(1, None))
    with record.guarded("rows", name="x") as row:
        row["value"] = 1
        raise ValueError("two\nlines")
    with record.guarded("rows", name="y") as row:
        row["value"] = 2
    found = json.loads(record.path.read_text())
    assert (found["a"], found["b"], found["c"], found["d"], found["e"]) == (
        0.5, None, 3, True, [1, None],
    )  # fmt: skip
    assert found["rows"] == [
        {"name": "x", "value": 1, "error": "ValueError: two lines"}, {"name": "y", "value": 2},
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [record.path]


FAKE = """
import json, os, signal, subprocess, sys, time
path, kind = sys.argv[1:]
def put(n):
    open(path + ".tmp", "w").write(json.dumps({"rows": n})); os.replace(path + ".tmp", path)
put(1)
if kind == "fine":
    put(2)
elif kind == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
elif kind == "rude":
    time.sleep(60)
elif kind == "polite":
    signal.signal(signal.SIGTERM, lambda *_: (put(3), sys.exit(0)))
    time.sleep(60)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(path + ".child", "w").write(str(child.pid))
    time.sleep(60)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("kind", "status", "rows"),
    [
        ("fine", "done", 2),
        ("crash", "failed", 1),
        ("polite", "done", 3),
        ("rude", "stopped", 1),
        ("deaf", "killed", 1),
    ],
)
def test_a_stage_that_hangs_or_crashes_is_ended_and_its_rows_are_kept(tmp_path, kind, status, rows):
    from gpu_stages.supervise import supervise

    record, seen = tmp_path / "record.json", []
    begun = time.monotonic()
    command = [sys.executable, "-c", FAKE, str(record), kind]
    found = supervise(command, 6, record, dict(os.environ), seen.append, grace=2)
    assert found["status"] == status
    assert seen[-1] == {"rows": rows}
    assert time.monotonic() - begun < 9
    if kind == "deaf":
        child = int(Path(f"{record}.child").read_text())
        time.sleep(0.2)
        state = Path(f"/proc/{child}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"


def exit_code(program) -> int:
    """What the command ends with; its handler of SIGTERM is taken back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return program.main()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.process
def test_after_a_stage_that_hangs_the_next_one_runs(tmp_path, program, monkeypatch):
    """The whole command with fake stages: a hangs, b crashes, c is fine."""
    kinds = {"a": "deaf", "b": "crash", "c": "fine"}
    given = ["gpu_check.py", "--rehearse", "--stages", "a,b,c", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.setattr(program.Campaign, "card", lambda self: self.flush())
    monkeypatch.setattr(program.Budget, "limit", lambda self, stage, later: 6.0)

    def call(self, stage, module, limit):
        record = self.work / f"{stage}.json"
        return [sys.executable, "-c", FAKE, str(record), kinds[stage]], record

    monkeypatch.setattr(program.Campaign, "call", call)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)  # with data, another process prepares them
    assert exit_code(program) == 1
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    stages = report["stages"]
    assert [stages[name]["status"] for name in "abc"] == ["killed", "failed", "done"]
    assert [stages[name]["results"]["rows"] for name in "abc"] == [1, 1, 2]
    assert stages["b"]["exit_code"] == -signal.SIGSEGV
    assert [path.name for path in tmp_path.iterdir()] == ["gpu_check.json"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--stages", "a,g"], "'g'"),
        (["--stages", ""], "choose among"),
        (["--stages", "a,a"], "twice"),
        (["--budget", "soon"], "--budget"),
        (["--stages", "a=x"], "'a=x' in it"),
        (["--stages", "a=1"], "at least 5"),
        (["--stages", "a=9,a"], "twice"),
        (["--budget", "5"], "at least 60"),
        (["--budget", "nan"], "--budget"),
        (["--data", "/nowhere"], "cifar10"),
        (["--out", f"{__file__}/x"], "--out"),
    ],
)
def test_wrong_arguments(program, monkeypatch, tmp_path, capsys, arguments, word):
    """One line and exit code 2, before any process is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    monkeypatch.setattr(program, "supervise", None)
    assert exit_code(program) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and word in line


def test_metrics_in_short():
    """Every validation stays; steps are thinned evenly; the rate is over the whole span."""
    from gpu_stages.rescue import condensed

    rows = []
    for step in range(1000):
        if step % 100 == 0:
            scores = {"valid_loss": 2 - step / 1000, "valid_accuracy": step / 1000}
            rows.append({"step": step, "seconds": step / 4, **scores})
        rows.append({"step": step, "loss": 1.0, "seconds": step / 4, "steps_per_second": 5.0})
    found = condensed(rows, most=50)
    assert len(found["validations"]) == 10 and found["best"]["step"] == 900
    assert len(found["losses"]) == 50 and found["losses"][1][0] == 20
    assert found["steps"] == 1000
    assert found["steps_per_second"] == 5 and found["steps_per_second_overall"] == pytest.approx(4)


def rehearse(out: Path, *arguments: str) -> dict:
    """The real command in tiny sizes; its report."""
    environment = {key: value for key, value in os.environ.items() if key != "TFDS_DATA_DIR"}
    script = str(SCRIPTS / "gpu_check.py")
    done = subprocess.run(
        [sys.executable, script, "--rehearse", "--out", str(out), *arguments],
        capture_output=True, text=True, timeout=400,
        env=environment | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + (out / "gpu_check.json").read_text()
    return json.loads((out / "gpu_check.json").read_text())


@pytest.mark.process
def test_rehearsal_of_the_rates(tmp_path):
    """Stages b, c and f through the real command; figures that follow from one another."""
    report = rehearse(tmp_path, "--stages", "b,c,f", "--budget", "600")
    results = {name: entry["results"] for name, entry in report["stages"].items()}
    cells = results["b"]["cells"]
    assert [cell["repeats"] for cell in cells] == [True, True, True, False]
    assert {(cell["features"], cell["fused"]) for cell in cells} == {
        ("float32", False), ("bfloat16", False), ("tf32", True),
    }  # fmt: skip
    for cell in cells:
        assert "error" not in cell
        rate = results["b"]["matmul_tflops"][cell["features"]]
        assert cell["of_matmul"] == pytest.approx(cell["tflops"] / rate)
        assert cell["ms"] >= cell["ms_least"] > 0
        assert cell["cosine_with_float32"] > 0.99
    assert results["b"]["cosine_of_fresh_networks"] < 0.99
    assert len(results["c"]["pairs"]) == 3
    for row in results["c"]["pairs"]:
        assert row["pairs_per_second"] == pytest.approx(row["n1"] * row["n2"] / row["seconds"])
    assert results["c"]["kip"][0]["seconds"] > 0
    assert results["f"]["frepo"][0]["ms_per_step"] > 0
    assert report["card"]["packages"]["jax"] == jax.__version__
    assert [path.name for path in tmp_path.iterdir()] == ["gpu_check.json"]


@pytest.mark.process
def test_rehearsal_of_the_published_cell_leaves_a_coreset(tmp_path, command):
    """A run that is cut leaves what distill-evaluate reads: the best coreset of its checkpoint."""
    report = rehearse(tmp_path, "--stages", "e", "--budget", "75")
    results = report["stages"]["e"]["results"]
    folder = tmp_path / "rfad_ipc1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == results["coreset"]
    scores = {row[0]: row[1] for row in results["metrics"]["validations"]}
    assert manifest["validation"]["loss"] == pytest.approx(scores[manifest["best_step"]])
    assert manifest["steps"] > 0
    with np.load(folder / "coreset.npz") as found, np.load(folder / "initial.npz") as first:
        assert found["images"].shape == first["images"].shape == (10, 8, 8, 1)
        moved = np.abs(found["images"] - first["images"]).max()
        assert moved > 0 or manifest["best_step"] == 0
    done = command("distill-evaluate", f"coreset={folder}", "evaluation=[krr_nngp]")
    assert done.code == 0, done.err
    assert "krr_nngp" in done.out


def test_gpu_cells_side_by_side_in_a_fixed_time(tmp_path):
    """Two runs, of which one ends and the other is cut: a coreset of each that can be measured."""
    script, small = str(SCRIPTS / "gpu_cells.py"), "dataset=digits kernel.networks=2"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "JAX_PLATFORMS": "cpu"}
    words = [f"short: {small} steps=10", f"long: {small} steps=1000000 validation.patience=1000000"]
    done = subprocess.run(
        [sys.executable, script, "--seconds", "75", "--out", str(tmp_path / "out"), *words],
        env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "out" / "cells.json").read_text())["cells"]
    assert (cells["short"]["exit_code"], cells["long"]["exit_code"]) == (0, 143)
    assert cells["short"]["metrics"]["steps"] == 10
    assert cells["long"]["coreset"]["best_step"] > 10
    for name in cells:
        with np.load(tmp_path / "out" / name / "coreset.npz") as file:
            assert file["images"].shape == (10, 8, 8, 1) and np.isfinite(file["images"]).all()
    for wrong in (["--seconds", "5", "a: steps=1"], ["--seconds", "60", "a b: steps=1"]):
        refused = subprocess.run(
            [sys.executable, script, "--out", str(tmp_path), *wrong],
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
