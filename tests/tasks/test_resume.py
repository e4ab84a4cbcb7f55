"""A killed run that resumes ends bit for bit as one that was never interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.process

SMALL = [
    "steps=120", "architecture.width=8", "kernel.networks=2", "batch.size=64", "evaluation=none",
    "validation.every=20", "validation.networks=2", "checkpoint.seconds=0", "labels=learned",
]  # fmt: skip


def start(folder: Path, out: str, *more: str) -> subprocess.Popen:
    """The command in a process of its own, as a user types it."""
    command = [sys.executable, "-m", "distill_cli.cli.distill", f"out={out}", *SMALL, *more]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "DISTILL_CACHE_DIR": str(folder / "c")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_checkpoint(folder: Path, out: str, above: int, process: subprocess.Popen) -> int:
    """Until a finished checkpoint of a step above `above` is there."""
    for _ in range(15000):  # five minutes: machines are shared
        # Four fixed levels, not "**": a walk falls over the temporary folders that the run renames.
        found = (folder / out).glob("*/*/*/*/checkpoints/*")
        steps = [int(p.name) for p in found if p.name.isdigit()]
        if steps and max(steps) > above:
            return max(steps)
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.02)
    raise AssertionError("no checkpoint")


def arrays(folder: Path, out: str) -> dict[str, np.ndarray]:
    (file,) = (folder / out).rglob("coreset/coreset.npz")
    with np.load(file) as found:
        return {key: found[key] for key in found.files}


def test_killed_interrupted_terminated_and_resumed_is_bit_identical(tmp_path):
    whole = start(tmp_path, "whole")
    assert whole.wait(300) == 0, whole.communicate()[1]

    reached = -1
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(tmp_path, "cut")
        reached = wait_for_checkpoint(tmp_path, "cut", reached, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        if code > 0:
            said = re.search(r"stopped: .* at step (\d+); state saved", err)
            assert said is not None, err
            reached = int(said.group(1))
    last = start(tmp_path, "cut")
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    assert f"resuming at step {reached}" in out

    one, other = arrays(tmp_path, "whole"), arrays(tmp_path, "cut")
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)

    def steps(out: str) -> list[int]:
        (file,) = (tmp_path / out).rglob("metrics.jsonl")
        return [json.loads(line)["step"] for line in file.read_text().splitlines()]

    assert steps("whole") == steps("cut")

    again = start(tmp_path, "cut")
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert "finished before" in out
    assert "step " not in out.replace("best step", "")


@pytest.fixture(scope="module")
def halfway(tmp_path_factory) -> Path:
    """A run that was killed after a few checkpoints."""
    folder = tmp_path_factory.mktemp("halfway")
    process = start(folder, "out")
    wait_for_checkpoint(folder, "out", 20, process)
    process.kill()
    process.communicate()
    return folder


def copy(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target, dirs_exist_ok=True)
    (checkpoints,) = target.rglob("checkpoints")
    return checkpoints


def newest(checkpoints: Path) -> Path:
    return max((p for p in checkpoints.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def finish(folder: Path) -> tuple[int, str, str]:
    process = start(folder, "out")
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("damage", ["truncate", "flip", "record"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(halfway, tmp_path, damage):
    checkpoints = copy(halfway, tmp_path)
    last = newest(checkpoints)
    if damage == "record":
        (last / "record" / "metadata").write_text('{"cut')
    else:
        for file in (last / "state").rglob("*"):
            if file.is_file() and file.stat().st_size > 200:
                data = bytearray(file.read_bytes())
                middle = len(data) // 2
                data = data[:middle] if damage == "truncate" else data
                if damage == "flip":
                    data[middle] ^= 0xFF
                file.write_bytes(bytes(data))
    code, out, err = finish(tmp_path)
    assert code == 0, err
    assert f"{last.name} is damaged" in err
    resumed = re.search(r"resuming at step (\d+)", out)
    assert resumed is not None
    assert int(resumed.group(1)) < int(last.name)


@pytest.mark.parametrize(
    ("key", "value"), [("digest", "00000000"), ("version", "0.0.1"), ("format", 99)]
)
def test_a_checkpoint_of_another_run_is_refused(halfway, tmp_path, key, value):
    checkpoints = copy(halfway, tmp_path)
    for file in checkpoints.glob("*/record/metadata"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, key: value}))
    code, _, err = finish(tmp_path)
    assert code == 2
    assert f"checkpoint of another run ({key} {value}" in err
    assert newest(checkpoints).exists()
