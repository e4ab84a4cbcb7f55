"""The same command started twice: one goes on untouched, the other ends with one line."""

import os
import subprocess
import sys

import pytest

from distill_cli.core import lock

TINY = ("method=random", "evaluation=none", "progress=plain")


def test_two_processes(tmp_path):
    argv = [sys.executable, "-m", "distill_cli.cli.distill", "steps=3", "architecture.width=8",
            "kernel.networks=2", "evaluation=none", "progress=plain"]  # fmt: skip
    here = os.environ | {"DISTILL_CACHE_DIR": str(tmp_path / "cache")}
    running = [
        subprocess.Popen(argv, cwd=tmp_path, env=here, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    said = [each.communicate(timeout=300) for each in running]
    codes = [each.returncode for each in running]
    assert sorted(codes) == [0, 2], said
    refused = said[codes.index(2)][1].strip().splitlines()
    assert len(refused) == 1
    assert "another distill is running this same configuration" in refused[0]
    (result,) = tmp_path.rglob("result.json")
    assert (result.parent / ".hydra" / "config.yaml").exists()
    assert (result.parent / "report.html").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("distill", *TINY),
        ("distill", "-m", "seed=0,1", *TINY),
        ("distill-evaluate", "coreset={run}", "evaluation=[krr_nngp]", "evaluation.limit=20"),
        ("distill-export", "coreset={run}"),
        ("distill-apply", "explain", "coreset={run}"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_who_is_refused_touches_nothing(command, tmp_path, monkeypatch, words):
    assert command("distill", *TINY, "seed=7").code == 0
    (result,) = tmp_path.rglob("result.json")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    def taken(handle, how):
        raise BlockingIOError

    monkeypatch.setattr(lock.fcntl, "flock", taken)
    done = command(*(word.format(run=result.parent) for word in words))
    assert done.code == 2
    (line,) = done.err.strip().splitlines()
    assert "another" in line or "this same sweep" in line
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert before <= after
    assert {path.name for path in after - before} <= {
        ".lock", "sweep.lock", "config.yaml", "hydra.yaml", "overrides.yaml", ".export-npz.lock",
    }  # fmt: skip


def test_a_sweep_leaves_no_lock(command, tmp_path):
    assert command("distill", "-m", "seed=0,1", *TINY).code == 0
    assert not list(tmp_path.rglob("sweep.lock"))


def test_wrong_words_leave_no_sweep(command, tmp_path):
    assert command("distill", "-m", "seed=0,1", "nonsense=3", *TINY).code == 2
    assert not (tmp_path / "outputs").exists()
