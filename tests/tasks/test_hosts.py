"""distill on several processes: one run, one writer, one end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from distill_cli.cli.errors import exit_codes
from distill_cli.core.host_place import place
from distill_cli.errors import UserError

SMALL = [
    "ipc=1", "steps=40", "hardware=cpu", "kernel.networks=2", "architecture.width=8",
    "batch.size=64", "batch.number=1", "evaluation=[]", "validation.every=10",
    "validation.networks=2", "checkpoint.seconds=0",
]  # fmt: skip
ENDLESS = [*SMALL, "steps=1000000", "validation.patience=1000000"]
PATIENCE = 240  # seconds; machines are shared
process = pytest.mark.process
SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0",
}  # fmt: skip
PLAIN = {
    "JAX_COORDINATOR_ADDRESS": "n1:7654", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3",
}  # fmt: skip


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "JAX_"))}
    own = {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1", "DISTILL_HEARTBEAT_SECONDS": "20"}
    return {**kept, **own, "DISTILL_CACHE_DIR": str(folder / "cache"), **more}


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("", 0))
        return trial.getsockname()[1]


def begin(
    folder: Path, count: int, *words: str, program: tuple[str, ...] = (), odd: dict | None = None
) -> list[subprocess.Popen]:
    """The command in `count` processes; program: instead of the module, in the last one; odd:
    arguments of the last one in place of `words`."""
    address, started = f"127.0.0.1:{free_port()}", []
    kept = {"cwd": folder, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for index in range(count):
        last = index == count - 1
        own = {}
        if count > 1:
            own = {
                "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(index),
            }  # fmt: skip
        typed = (odd or {}).get("words", words) if last else words
        what = program if program and last else ("-m", "distill_cli.cli.distill")
        command = [sys.executable, *what, *typed]
        started.append(subprocess.Popen(command, env=environment(folder, **own), **kept))
    return started


def ends(processes: list[subprocess.Popen]) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, standard outputs and error outputs; none is left behind."""
    try:
        texts = [one.communicate(timeout=PATIENCE) for one in processes]
    finally:
        for one in processes:
            with contextlib.suppress(OSError):
                one.kill()
    return [p.returncode for p in processes], [out for out, _ in texts], [err for _, err in texts]


def whole(folder: Path, count: int, *words: str) -> tuple[list[str], list[str]]:
    codes, outs, errs = ends(begin(folder, count, *words))
    assert codes == [0] * count, errs
    return outs, errs


def wait_for_checkpoint(folder: Path, processes: list[subprocess.Popen], above: int = -1) -> int:
    """Until a finished checkpoint of a step above `above` is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = folder.glob("*/*/*/*/checkpoints/*")
        steps = [int(path.name) for path in found if path.name.isdigit()]
        if steps and max(steps) > above:
            return max(steps)
        for one in processes:
            assert one.poll() is None, one.communicate()
        time.sleep(0.05)
    raise AssertionError("no checkpoint")


def coreset(folder: Path) -> bytes:
    (file,) = folder.rglob("coreset/coreset.npz")
    return file.read_bytes()


def numbers(folder: Path) -> list[tuple]:
    """What metrics.jsonl says, without times."""
    (file,) = folder.rglob("metrics.jsonl")
    rows = map(json.loads, file.read_text().splitlines())
    return [tuple((k, v) for k, v in row.items() if "second" not in k) for row in rows]


def used(folder: Path) -> int:
    """Devices that the run shared its work out to."""
    (file,) = folder.rglob("result.json")
    return json.loads(file.read_text())["devices"]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """One folder for the module, so that compiled programs are shared; with a single run."""
    folder = tmp_path_factory.mktemp("hosts")
    whole(folder, 1, "out=one", *SMALL)
    return folder


def tree(folder: Path) -> set[str]:
    """Files, without the names that Orbax draws for its data."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"/d/[0-9a-f]{32}$", "/d/data", name) for name in found}


@process
@pytest.mark.parametrize(
    "method", [("method=frepo", "method.networks=2", "method.pool=4"), ("method=dm",)]
)
def test_methods_that_share_networks_or_classes_give_the_bits_of_one_process(workshop, method):
    words = [*method, "method.width=8", "steps=20", "architecture.width=8", "batch.size=64",
             "batch.number=1", "ipc=1", "evaluation=[]", "validation.every=10",
             "validation.networks=2"]  # fmt: skip
    for count in (1, 2):
        whole(workshop, count, f"out={method[0][7:]}{count}", *words)
    one, two = (workshop / f"{method[0][7:]}{count}" for count in (1, 2))
    assert coreset(one) == coreset(two)
    assert numbers(one) == numbers(two)


@process
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_files_and_bits_of_one(workshop, count):
    out = f"out{count}"
    outs, errs = whole(workshop, count, f"out={out}", *SMALL)
    assert coreset(workshop / out) == coreset(workshop / "one")
    assert numbers(workshop / out) == numbers(workshop / "one")
    assert tree(workshop / out) == tree(workshop / "one")
    assert "result " in outs[0]
    assert outs[1:] == [""] * (count - 1)
    assert errs == [""] * count
    if count == 2:
        again, errs = whole(workshop, count, f"out={out}", *SMALL)
        assert "finished before" in again[0]
        assert again[1:] == [""] and errs == [""] * 2


@process
@pytest.mark.slow  # every process compiles the kernel and its derivative: a minute on two cores
def test_an_exact_kernel_with_its_rows_on_two_processes(workshop):
    """One block: a second one multiplies the time to compile and shares out the same rows."""
    words = [
        "method=kip", "hardware=cpu", "architecture.depth=1", "ipc=1", "steps=4", "batch.size=16",
        "validation.every=2", "validation.per_class=2", "evaluation=[krr_ntk]",
        "evaluation.limit=20",
    ]  # fmt: skip
    whole(workshop, 1, "out=kip1", *words)
    whole(workshop, 2, "out=kip2", *words)
    assert used(workshop / "kip2") == 2 * used(workshop / "kip1")  # a device for every core
    for one, two in zip(numbers(workshop / "kip1"), numbers(workshop / "kip2"), strict=True):
        for (name, a), (other, b) in zip(one, two, strict=True):
            assert name == other
            np.testing.assert_allclose(a, b, rtol=1e-4)


@process
def test_processes_are_lost_and_stopped_and_fewer_go_on_to_the_same_bits(workshop):
    """A run of four that loses one, then runs of two that get a signal each, then one process."""
    words = ["out=cut", *SMALL, "steps=300", "validation.patience=300"]
    whole(workshop, 1, "out=uncut", *words[1:])
    rounds = ((4, 3, signal.SIGKILL), (2, 1, signal.SIGTERM), (2, 0, signal.SIGINT))
    reached = -1
    for count, who, number in rounds:
        processes = begin(workshop, count, *words)
        reached = wait_for_checkpoint(workshop / "cut", processes, reached)
        processes[who].send_signal(number)
        begun = time.monotonic()
        codes, outs, errs = ends(processes)
        if number == signal.SIGKILL:
            assert time.monotonic() - begun < 60
            assert codes == [1, 1, 1, -9]
            for text in errs[:3]:
                assert len(lines(text)) == 1, text
                (said,) = lines(text)
                assert "was lost" in said and "goes on from the last checkpoint" in said
            continue
        assert codes == [128 + number] * count, errs
        assert "resuming at step" in outs[0]
        said = [line for text in errs for line in lines(text) if line.startswith("stopped:")]
        assert len(said) == 1 and "state saved" in said[0]
        reached = int(said[0].split("at step ")[1].split(";")[0])
    outs, _ = whole(workshop, 1, *words)
    assert f"resuming at step {reached}" in outs[0]
    assert coreset(workshop / "cut") == coreset(workshop / "uncut")
    assert numbers(workshop / "cut") == numbers(workshop / "uncut")


@process
def test_the_loss_of_process_0_ends_the_others(workshop):
    processes = begin(workshop, 2, "out=headless", *ENDLESS)
    wait_for_checkpoint(workshop / "headless", processes)
    processes[0].kill()
    codes, _, errs = ends(processes)
    assert codes == [-9, 1]
    (said,) = lines(errs[1])
    assert "was lost" in said


@process
def test_mixed_versions_and_settings_end_all_with_one_line(workshop):
    script = (
        "import distill_cli.version as v; v.__version__ = '9.9'\n"
        "from distill_cli.cli.distill import main; main()"
    )
    codes, _, errs = ends(begin(workshop, 2, "out=mixed", *SMALL, program=("-c", script)))
    assert codes == [2, 2]
    (said,) = lines("".join(errs))
    assert "mixed versions between hosts: distill_cli is" in said and "9.9 at process 1" in said
    odd = {"words": ("out=mixed", *SMALL, "seed=3")}
    codes, _, errs = ends(begin(workshop, 2, "out=mixed", *SMALL, odd=odd))
    assert codes == [2, 2]
    (said,) = lines("".join(errs))
    assert "mixed settings between hosts: seed is 0 at process 0" in said
    assert not files(workshop / "mixed")


@process
def test_what_keeps_process_0_from_starting_ends_all_with_its_line(workshop):
    holder = begin(workshop, 1, "out=held", *ENDLESS)
    wait_for_checkpoint(workshop / "held", holder)
    codes, _, errs = ends(begin(workshop, 2, "out=held", *ENDLESS))
    holder[0].kill()
    ends(holder)
    assert codes == [2, 2]
    (said,) = lines("".join(errs))
    assert "another distill is running this same configuration" in said
    for words, text in (
        (("devices=3",), "devices=3: only 2 available"),
        (("devices=1",), "must be a multiple of the number of processes"),
        (("ipc=0",), "ipc=0"),
    ):
        codes, _, errs = ends(begin(workshop, 2, "out=never", *words))
        assert codes == [2, 2], errs
        (said,) = lines("".join(errs))
        assert text in said
    assert not files(workshop / "never")


@process
def test_an_error_at_another_host_names_it(workshop):
    odd = {"words": ("out=odd", *SMALL, "ipc=x")}
    codes, _, errs = ends(begin(workshop, 2, "out=odd", *SMALL, odd=odd))
    assert codes == [2, 2]
    (said,) = lines("".join(errs))
    assert said.startswith("error: process 1 of 2") and "ipc=x" in said


@process
@pytest.mark.parametrize("index", [0, 1])
def test_a_process_alone_ends_with_one_line(workshop, index):
    own = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(index), "DISTILL_START_SECONDS": "2",
    }  # fmt: skip
    command = [sys.executable, "-m", "distill_cli.cli.distill", "out=alone"]
    done = subprocess.run(
        command, cwd=workshop, env=environment(workshop, **own), capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    (said,) = lines(done.stderr)
    assert "in 2 s" in said and "DISTILL_START_SECONDS" in said
    assert not (workshop / "alone").exists()


@process
@pytest.mark.parametrize(
    ("module", "words", "given", "named"),
    [
        ("distill", ["-m", "seed=1,2"], PLAIN | {"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS"),
        ("distill", ["seed=1,2", "--multirun"], PLAIN, "JAX_COORDINATOR_ADDRESS"),
        ("distill", ["hydra.mode=MULTIRUN", "seed=1"], SLURM, "SLURM_STEP_NUM_TASKS"),
        ("evaluate", ["coreset=x"], SLURM, "SLURM_STEP_NUM_TASKS"),
        ("evaluate", ["coreset=x"], PLAIN | {"JAX_PROCESS_ID": "7"}, "JAX_PROCESS_ID"),
        ("table", ["run", "digits_demo"], PLAIN, "JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_what_is_not_one_run_is_refused_before_the_processes_meet(
    tmp_path, module, words, given, named
):
    """Each by itself: nobody listens at the address, and the others never start."""
    if "JAX_COORDINATOR_ADDRESS" in given:
        given = given | {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}"}
    done = subprocess.run(
        [sys.executable, "-m", f"distill_cli.cli.{module}", *words], cwd=tmp_path,
        env=environment(tmp_path, **given), capture_output=True, text=True,
        timeout=45,  # below the 60 s that processes wait for each other
    )  # fmt: skip
    assert done.returncode == 2
    (said,) = lines(done.stderr)
    assert said.startswith(f"error: {named}=")
    if named != "JAX_PROCESS_ID":
        assert "without -m, runs on several processes" in said and "DISTILL_HOSTS=off" in said
    assert not files(tmp_path) and not done.stdout


@pytest.mark.parametrize("name", ["evaluate", "export", "apply", "report", "theory"])
@pytest.mark.parametrize("given", [PLAIN, SLURM], ids=["plain", "slurm"])
def test_only_what_is_shown_passes_under_their_variables(monkeypatch, capsys, name, given):
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    for words, refused in ((["--help"], False), (["--cfg", "job"], False), (["out=x"], True)):
        monkeypatch.setattr(sys, "argv", [name, *words])
        ran = False
        with pytest.raises(SystemExit) if refused else contextlib.nullcontext(), exit_codes(name):
            ran = True
        assert ran != refused
        assert bool(capsys.readouterr().err) == refused


def test_the_place_in_plain_variables():
    found = place(PLAIN)
    assert found is not None
    assert (found.index, found.count, found.address, found.local_ids) == (3, 4, "n1:7654", None)
    assert (found.start_seconds, found.heartbeat_seconds) == (60, 20)
    assert place({}) is None
    assert place({"JAX_NUM_PROCESSES": "1"}) is None
    assert place({**PLAIN, "DISTILL_HOSTS": "off"}) is None


@pytest.mark.parametrize("missing", list(PLAIN))
def test_half_given_variables_name_what_is_missing(missing):
    with pytest.raises(UserError, match=f"{missing}: missing"):
        place({k: v for k, v in PLAIN.items() if k != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_NUM_PROCESSES", "four"), ("JAX_NUM_PROCESSES", "0"), ("JAX_PROCESS_ID", "-1"),
        ("JAX_PROCESS_ID", "4"), ("JAX_COORDINATOR_ADDRESS", "n1"),
        ("JAX_COORDINATOR_ADDRESS", "n1:99999"), ("DISTILL_START_SECONDS", "soon"),
        ("DISTILL_HEARTBEAT_SECONDS", "0"), ("DISTILL_HOSTS", "no"),
    ],
)  # fmt: skip
def test_bad_variables_are_named(name, value):
    with pytest.raises(UserError, match=f"^{name}={value}: "):
        place({**PLAIN, name: value})


def test_a_task_of_slurm():
    found = place(SLURM)
    assert found is not None
    assert (found.index, found.count, found.address) == (2, 4, None)
    assert found.local_ids is None  # JAX gives it the device SLURM_LOCALID
    alone = place({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_GPUS_ON_NODE": "8"})
    assert alone is not None and alone.local_ids == tuple(range(8))
    bound = place({**SLURM, "SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "5"})
    assert bound is not None and bound.local_ids == (0,)
    named = place({**SLURM, "JAX_COORDINATOR_ADDRESS": "n9:1234"})
    assert named is not None and (named.index, named.address) == (2, "n9:1234")
    with pytest.raises(UserError, match="SLURM_PROCID=4"):
        place({**SLURM, "SLURM_PROCID": "4"})


@pytest.mark.parametrize(
    "changed",
    [
        {"SLURM_STEP_NUM_TASKS": "1"},  # one task, as submitit's launcher starts it
        {"SLURM_STEP_NUM_TASKS": None},  # typed in a batch script, not under srun
        {"SLURM_STEP_NODELIST": None},
        {"SLURM_PROCID": None},
        {"DISTILL_HOSTS": "off"},
    ],
)
def test_slurm_without_several_tasks_is_one_process(changed):
    given = {k: v for k, v in {**SLURM, **changed}.items() if v is not None}
    assert place(given) is None
