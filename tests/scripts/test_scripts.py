"""Every script in scripts/ runs: tiny sizes, what it prints and writes, its exit codes."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
SLOW_STEP = """

class Slow:
    def __init__(self, method):
        self.method = method

    def __getattr__(self, name):
        return getattr(self.method, name)

    def step(self, *arguments):
        import time
        import jax
        jax.debug.callback(lambda: time.sleep(0.2))
        return self.method.step(*arguments)


quick = make_distiller
make_distiller = lambda setting: Slow(quick(setting))
"""
pytestmark = pytest.mark.process


def run(script: Path | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A script in a process of its own; this tree's package."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
    )


def one_line_refusal(done: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2 and one line that holds the words."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def load(name: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy(name: str, folder: Path) -> Path:
    """The script in a repository of its own, for those that write into docs/results."""
    (folder / "scripts").mkdir()
    (folder / "docs" / "results").mkdir(parents=True)
    return Path(shutil.copy(SCRIPTS / f"{name}.py", folder / "scripts"))


def test_every_script_has_a_test():
    """test_<script> or test_<script>_... in a file of this folder."""
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    assert len(names) >= 6
    missing = [name for name in names if not any(f"def test_{name}" in text for text in texts)]
    assert not missing


def test_bench_step(tmp_path):
    record = tmp_path / "step.json"
    done = run("bench_step.py", "--quick", "--repeats", "2", "--json", str(record))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(record.read_text())["rows"]
    assert row["case"] in done.stdout
    assert row["share"] == pytest.approx(row["features_gflops"] / row["matmul_gflops"])
    assert row["step_seconds"] > 0


def test_bench_step_counts_the_convolutions():
    """Arithmetic of the features: 2 * 9 * h * w * c_in * c_out of every convolution."""
    made = load("bench_step").Case("8x8, tiny")
    by_hand = 2 * 9 * (64 * 1 * 8 + 16 * 8 * 8 + 4 * 8 * 8)
    assert made.facts["features_flops"] == 2 * 32 * by_hand


def test_bench_step_against_another_tree(tmp_path):
    """Both sides come from the folders they are said to come from; the ratio is this over other."""
    other = tmp_path / "src"
    shutil.copytree(ROOT / "src", other, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    with (other / "distill_cli" / "methods" / "base.py").open("a") as file:
        file.write(SLOW_STEP)
    record = tmp_path / "against.json"
    done = run(
        "bench_step.py", "--quick", "--repeats", "3", "--json", str(record),
        "--against", str(other),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(record.read_text())["rows"]
    assert row["step_other"] > 0.2 > row["step_this"]
    assert row["step_ratio"] < 0.5
    assert row["step_ratio"] == pytest.approx(row["step_this"] / row["step_other"])


def test_bench_step_refuses_what_it_cannot_compare(tmp_path):
    one_line_refusal(run("bench_step.py", "--against", str(tmp_path)), "src")
    one_line_refusal(run("bench_step.py", "--repeats", "0"), "repeats")


def test_bench_exact_kernel(tmp_path):
    """The smallest case through the whole table; both engines in processes of their own."""
    record = tmp_path / "kernel.json"
    done = run("bench_exact_kernel.py", "--quick", "--case", "8x8x1", "--json", str(record))
    assert done.returncode == 0, done.stderr
    band, slow = json.loads(record.read_text())
    assert (band["engine"], slow["engine"]) == ("band", "neural_tangents")
    assert 0 < band["seconds"] < slow["seconds"]
    assert band["cores"] == 1
    assert "8x8x1" in done.stdout and "32x32x3" not in done.stdout


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator is here")
def test_gpu_check_needs_an_accelerator():
    one_line_refusal(run("gpu_check.py"), "accelerator")


@pytest.mark.skipif(not (SCRIPTS / "gpu_compile.py").exists(), reason="no scripts/gpu_compile.py")
@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is not None, reason="the CUDA plugin is here"
)
def test_gpu_compile_needs_the_plugin():
    one_line_refusal(run("gpu_compile.py"))


def test_plot_selection(tmp_path):
    """Draws every recorded table where the script's own repository keeps results."""
    done = run(copy("plot_selection", tmp_path), MPLCONFIGDIR=str(tmp_path / "matplotlib"))
    assert done.returncode == 0, done.stderr
    drawn = sorted((tmp_path / "docs" / "results").glob("*.png"))
    assert [path.name for path in drawn] == ["selection_digits.png", "selection_kip.png"]
    assert sorted(done.stdout.split()) == [str(path) for path in drawn]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_record_result(tmp_path):
    """Figures are kept; folders and addresses of the machine are not."""
    kept = ROOT / "docs" / "results" / "rfad_mnist_ipc1_cpu_seed0.json"
    result = json.loads(kept.read_text())
    result["command"] = "distill out=/somewhere/private method=rfad progress=none"
    result["config"] |= {"out": "/somewhere/private", "progress": "none"}
    result["config"]["dataset"]["data_dir"] = "/somewhere/private"
    result["scratch"] = "not kept"
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "result.json").write_text(json.dumps(result))
    done = run(copy("record_result", tmp_path), str(run_folder), "idle")
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "docs" / "results").iterdir()
    assert written.name == kept.name and done.stdout.strip() == str(written)
    record = json.loads(written.read_text())
    assert record["note"] == "idle" and record["command"] == "distill method=rfad"
    assert record["evaluations"] == result["evaluations"]
    assert "private" not in written.read_text() and "scratch" not in record


def test_gram_accuracy(tmp_path):
    """A row of errors for each algorithm; six bfloat16 products are far better than one of TF32 and
    no worse than float32 arithmetic."""
    sizes = ["--images=12", "--batch=8", "--width=4", "--networks=1", "--dataset=digits"]
    done = run("gram_accuracy.py", *sizes, f"--json={tmp_path / 'table.json'}")
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(maxsplit=4) for line in done.stdout.splitlines()[1:]]
    alpha = {name.strip(): float(row[2]) for name, *row in lines}
    assert len(alpha) == 9
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["images"] == 12 and len(table["rows"]) == 9
    of = {row["products"] + " whole" * row["whole"]: row["alpha"] for row in table["rows"]}
    assert {name: float(f"{value:.1e}") for name, value in of.items()} == alpha
    assert alpha["BF16_X6"] < 1.5 * alpha["float32"] < 0.5 * alpha["TF32"]


@pytest.mark.parametrize("arguments", [(), ("distil",), ("--help",)])
def test_run_names_its_commands(tmp_path, arguments):
    """Nothing is set up for a command that does not exist."""
    environment = tmp_path / "venv"
    one_line_refusal(
        run("run.py", *arguments, DISTILL_VENV=str(environment)), "distill", "distill-table", "test"
    )
    assert not environment.exists()


def test_plot_accuracy(tmp_path):
    """Snapshots of a tiny run: their accuracies against the seconds of the run, and a picture."""
    small = ["steps=20", "snapshots=[0,5,20]", "kernel.networks=2", "architecture.width=16",
             "evaluation=none", "validation.networks=2", "progress=none"]  # fmt: skip
    command = [sys.executable, "-m", "distill_cli.cli.distill", f"out={tmp_path}", *small]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, check=True, env=environment, timeout=300, capture_output=True)
    (folder,) = (tmp_path / "rfad" / "digits" / "ipc1").iterdir()
    place = tmp_path / "curves"
    done = run("plot_accuracy.py", f"a={folder}", "--out", str(place), "--published", "a=97",
               "--set", "evaluation.krr_nngp.ridge=1e-3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    one = json.loads(place.with_suffix(".json").read_text())["curves"]["a"]
    assert [point["step"] for point in one["points"]] == [0, 5, 20]
    seconds = [point["cpu_seconds"] for point in one["points"]]
    assert seconds[0] == 0 < seconds[1] < seconds[2] <= one["cpu_seconds"]
    assert one["points"][2]["accuracy"] > one["points"][0]["accuracy"] > 20
    assert one["matmul_gflops"] > 0
    assert "1e-3" in "".join(p.read_text() for p in tmp_path.rglob("measured/**/evaluation.json"))
    assert place.with_suffix(".png").stat().st_size > 1000
    one_line_refusal(run("plot_accuracy.py", "a=/nowhere", "--out", str(place)), "a=/nowhere")
