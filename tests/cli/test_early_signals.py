"""A signal before a run has handlers of its own ends the process in one line, wherever it meets
Python: in an import, or in a callback whose exceptions are swallowed."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_cli.cli import early_signals
from distill_cli.tasks.export import whole_folder
from distill_cli.train import signals


@pytest.fixture
def ends(monkeypatch) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    monkeypatch.setattr(signals, "exit_at_once", lambda code, line: found.append((code, line)))
    monkeypatch.setattr(sys, "argv", ["distill"])
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_callback_is_not_swallowed(ends, number):
    def callback(phase, info):
        if phase == "start" and not ends:
            os.kill(os.getpid(), number)

    with early_signals.ended_early():
        gc.callbacks.append(callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(callback)
    line = f"stopped: by {number.name}; nothing was unsaved, the same command goes on"
    assert ends == [(128 + number, line)]


def test_an_export_that_is_ended_leaves_no_temporary_folder(ends, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with early_signals.ended_early(), whole_folder(tmp_path / "out") as place:
        (place / "new").write_text("new")
        os.kill(os.getpid(), signal.SIGINT)
        assert ends and [path.name for path in tmp_path.iterdir()] == ["out"]
        place.mkdir()  # the process would have ended
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_former_handlers_come_back_and_own_ones_stay(ends):
    usual = signal.getsignal(signal.SIGINT)
    with early_signals.ended_early():
        assert signal.getsignal(signal.SIGINT) is early_signals.end
    assert signal.getsignal(signal.SIGINT) is usual
    own = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with early_signals.ended_early():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, own)


def test_sweeps_and_several_processes_have_handlers_of_their_own(ends, monkeypatch):
    usual = signal.getsignal(signal.SIGINT)
    early_signals.install()
    try:
        monkeypatch.setenv("JAX_PROCESS_ID", "0")
        monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
        monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
        with early_signals.ended_early():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is early_signals.end
        with early_signals.ended_early(raising=True):
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        monkeypatch.setattr(sys, "argv", ["distill", "-m", "seed=0,1"])
        with early_signals.ended_early():
            assert signal.getsignal(signal.SIGINT) is early_signals.end
    finally:
        signal.signal(signal.SIGINT, usual)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.process
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.8, 1.6, 2.4, 4.0])
def test_the_command_ends_in_one_line_at_any_moment(tmp_path, seconds):
    entry = "from distill_cli.cli.entry import distill; distill()"
    command = [sys.executable, "-c", entry, "evaluation=none", "steps=100000",
               "validation.patience=100000", "progress=none"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not imported(process.pid):
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    (last,) = [line for line in said.splitlines() if line.startswith("stopped: ")]
    assert "the same command goes on" in last


def imported(pid: int) -> bool:
    """Whether a process has come so far that it handles signals itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(x for x in status.splitlines() if x.startswith("SigCgt")).split()[1], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))
