"""The snapshot of all settings: what is committed is what the files in configs/ compose to."""

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import snapshot_settings as snapshot

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def now() -> str:
    return snapshot.text()


def test_settings_are_those_of_the_snapshot(now):
    """Digests are names of run folders: saved runs are found as long as no line changes."""
    before = snapshot.FILE.read_text(encoding="utf-8")
    changes = difflib.unified_diff(before.split("\n"), now.split("\n"), "before", "now", n=0)
    assert before == now, "\n".join([*changes, "meant? python scripts/snapshot_settings.py"])


def test_every_setting_is_there(now):
    blocks = [line for line in now.split("\n") if line.startswith("[")]
    methods = {path.stem for path in (CONFIGS / "method").glob("*.yaml")}
    hardware = {path.stem for path in (CONFIGS / "hardware").glob("*.yaml")}
    for name in methods:
        assert {f"[{name} {one}]" for one in hardware} <= set(blocks)
    assert now.count("\ncifar10 ") >= 2 * len(methods)


@pytest.mark.parametrize("folder", ["preset", "reduced"])
def test_longer_hardware_has_all_that_the_shorter_has(folder):
    """Else a pair would fall back to general sizes where more time is meant."""
    short, long = (CONFIGS / folder / name for name in ("cpu", "cpu_long"))
    for path in short.rglob("*.yaml"):
        if path.parent.name != "evaluation":  # cpu_long has the published sizes of protocols
            assert (long / path.relative_to(short)).is_file(), path


def test_differences():
    base = {"a.b": 1, "c": "x", "dataset.k": 1, "gone": None}
    values = {"a.b": 1.5, "c": "x", "dataset.k": 2, "new": [1, 2]}
    assert snapshot.difference(base, values) == "a.b=1.5 new=[1,2] -gone"
    assert snapshot.difference(base, base) == ""


def test_snapshot_settings(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(Path(snapshot.__file__).parent)!r})
import snapshot_settings as s
from pathlib import Path
s.ROOT = Path({str(tmp_path)!r}); s.FILE = s.ROOT / "settings.txt"
s.group_choices = lambda group: {{"method": ["dm"], "dataset": ["digits", "mnist"],
    "hardware": ["full", "cpu"]}}[group]
sys.exit(s.main())
"""
    run = lambda *words: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert run("--check").returncode == 1
    made = run()
    assert made.returncode == 0 and made.stdout == "settings.txt: rewritten\n"
    assert run("--check").stdout == "settings.txt: up to date\n"
    path = tmp_path / "settings.txt"
    path.write_text(path.read_text().replace("digits 1:", "digits 7:"))
    done = run("--check")
    assert done.returncode == 1 and "+digits 1:" in done.stdout and "-digits 7:" in done.stdout
