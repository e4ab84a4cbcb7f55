"""`distill` as a process of its own, and what such a process leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from distill_cli.core.coreset_io import sha256

TUNING = "xla_gpu_per_fusion_autotune_cache_dir"  # of JAX, in its folder of compiled programs
DIGITS = [
    "method=rfad", "dataset=digits", "ipc=1", "steps=40", "architecture.width=32",
    "kernel.networks=4", "batch.size=256", "batch.number=2", "batch.micro=128",
    "validation.every=4", "validation.networks=4", "checkpoint.seconds=0", "labels=learned",
    "evaluation=none",
]  # fmt: skip


def start(out: Path, overrides: list[str], log: Path, **environment: str) -> subprocess.Popen:
    """`distill out=OUT OVERRIDES`, its output in `log`."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "distill_cli.cli.distill", f"out={out}", *overrides]
    given = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, cwd=out, env=given, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip


def run_folder(out: Path) -> Path | None:
    """The folder <method>/<dataset>/ipc<n>/<digest> of the only run below `out`; None before it."""
    found = [path for path in out.glob("*/*/*/*") if path.is_dir()]
    return found[0] if found else None


def checkpoint_step(out: Path) -> int:
    """Step of the newest finished checkpoint below `out`; -1 where there is none."""
    steps = [int(path.name) for path in out.glob("*/*/*/*/checkpoints/*") if path.name.isdigit()]
    return max(steps, default=-1)


def killed_after_checkpoint(process: subprocess.Popen, out: Path, left: Callable[[], float]) -> int:
    """SIGKILL the run once a checkpoint behind step 0 is there; its step. RuntimeError where the
    run ends before, or time does."""
    while process.poll() is None and left() > 0:
        if (step := checkpoint_step(out)) > 0:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return step
        time.sleep(0.01)
    process.kill()
    raise RuntimeError(f"no checkpoint before exit code {process.wait()}")


def coreset_hash(out: Path) -> str:
    """sha256 of the finished run's coreset.npz."""
    folder = run_folder(out)
    if folder is None or not (folder / "coreset" / "coreset.npz").is_file():
        raise RuntimeError(f"no finished run in {out.name}")
    return sha256(folder / "coreset" / "coreset.npz")


def same_bits(
    work: Path,
    left: Callable[[], float],
    overrides: list[str] | None = None,
    partly: Callable[[dict[str, object]], None] = lambda found: None,
) -> dict[str, object]:
    """Do runs repeat, and resume, bit for bit?

    Two runs with caches of their own (each compiles and tunes for itself). Then one with the first
    one's cache that is killed behind a checkpoint and goes on, and one that compiles for itself,
    but has the first one's tuning. Returns hashes, the step of the kill, files of tuning found and
    {repeats_bit_for_bit, resumes_bit_for_bit, repeats_with_tuning}; partly(found) is told the first
    before the others are known.
    """
    overrides, caches = overrides or DIGITS, [work / f"cache{i}" for i in (1, 2, 3)]
    environments = [
        {"DISTILL_CACHE_DIR": str(cache), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        for cache in caches
    ]
    whole, again, cut, tuned = (work / name for name in ("whole", "again", "cut", "tuned"))
    started = [
        start(out, overrides, work / f"{out.name}.log", **environment)
        for out, environment in zip(
            (whole, again), environments, strict=False
        )  # the third is for `tuned`
    ]
    for process, out in zip(started, (whole, again), strict=True):
        finish(process, work / f"{out.name}.log", left)
    first, second = coreset_hash(whole), coreset_hash(again)
    partly({"sha256": [first, second], "repeats_bit_for_bit": first == second})
    files = carry_tuning(caches[0], caches[2])
    other = start(tuned, overrides, work / "tuned.log", **environments[2])
    log = work / "cut.log"
    process = start(cut, overrides, log, **environments[0])
    step = killed_after_checkpoint(process, cut, left)
    finish(start(cut, overrides, log, **environments[0]), log, left)
    finish(other, work / "tuned.log", left)
    hashes = {out.name: coreset_hash(out) for out in (whole, again, cut, tuned)}
    return {
        "sha256": hashes, "tuning_files": files, "killed_at": step,
        "resumed": "resuming at step" in log.read_text(),
        "repeats_bit_for_bit": hashes["whole"] == hashes["again"],
        "resumes_bit_for_bit": hashes["whole"] == hashes["cut"],
        "repeats_with_tuning": hashes["whole"] == hashes["tuned"],
    }  # fmt: skip


def carry_tuning(source: Path, target: Path) -> int:
    """Copy what autotuning chose from one cache folder into another; the number of files."""
    files = [path for path in source.glob(f"compiled/*/{TUNING}/**/*") if path.is_file()]
    for file in files:
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    return len(files)


def finish(process: subprocess.Popen, log: Path, left: Callable[[], float]) -> None:
    """Wait for exit code 0; RuntimeError with what the process said otherwise."""
    try:
        code = process.wait(max(left(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"{log.stem}: out of time") from None
    if code:
        raise RuntimeError(f"{log.stem}: exit code {code}: {log.read_text()[-500:]}")
