"""Light start, shell completion's configs, and the installed wheel."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("jax", "tensorflow", "tensorflow_datasets", "orbax", "flax", "matplotlib", "sklearn")


def modules_after(name: str, arguments: list[str], cwd: Path) -> set[str]:
    """Top-level modules loaded by a command."""
    module = name.removeprefix("distill-")
    code = (
        "import sys, json, atexit\n"
        "atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
        f"sys.argv = {[name, *arguments]!r}\n"
        f"from distill_cli.cli.{module} import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.process
@pytest.mark.parametrize("name", ["distill", "distill-evaluate"])
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_cfg_import_nothing_heavy(tmp_path, name, arguments):
    more = ["coreset=x.npz"] if name == "distill-evaluate" else []
    loaded = modules_after(name, [*arguments, *more], tmp_path)
    assert "hydra" in loaded
    assert not loaded & set(HEAVY)
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_package_import_is_light_and_evaluate_is_a_function(tmp_path):
    code = (
        "import sys, distill_cli\n"
        f"assert not set({HEAVY!r}) & set(sys.modules)\n"
        "from distill_cli import distill, evaluate, load_coreset\n"
        "assert all(map(callable, (distill, evaluate, load_coreset)))\n"
        "import distill_cli.tasks.distill, distill_cli.tasks.evaluate\n"
        "assert callable(distill_cli.distill) and callable(distill_cli.evaluate)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.process
def test_wheel_has_the_configs_and_runs_from_an_empty_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode and "No matching distribution" in built.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"distill_cli/configs/{path.relative_to(ROOT / 'configs').as_posix()}" in names
    source = ROOT / "src"
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(source).as_posix() in names
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [*pip, "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import distill_cli; from distill_cli.config import config_dir\n"
        f"assert str(config_dir()).startswith({str(site)!r}), config_dir()\n"
        "from distill_cli.tables import registry\n"
        "assert len(registry.load(registry.default_path())) > 10\n"
        "sys.argv = ['distill', 'steps=2', 'architecture.width=4', 'kernel.networks=1',"
        " 'batch.size=16', 'validation.networks=1', 'evaluation=none']\n"
        "from distill_cli.cli.distill import main; main()\n"
    )
    environment = {**os.environ, "DISTILL_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list(empty.rglob("report.html"))) == 1
