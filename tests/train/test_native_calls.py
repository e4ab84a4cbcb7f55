"""Signals inside native code: ended where nothing is lost, waited for where something is."""

import os
import signal
import subprocess
import sys
import time

import pytest

from distill_cli.train import native_calls
from distill_cli.train.native_calls import ended_by_signals

GRACE = 0.3


@pytest.fixture
def send(monkeypatch):
    """send(number of signals): within a block whose main thread goes on; what ended the process."""
    monkeypatch.setattr(native_calls, "GRACE", GRACE)
    former = signal.signal(signal.SIGTERM, lambda *_: None)

    def run(count: int, unsaved: list[bool], stay: float) -> list[tuple[int, str]]:
        ends: list[tuple[int, str]] = []
        with ended_by_signals(lambda: unsaved[-1], lambda *end: ends.append(end)):
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
            time.sleep(stay)
        return ends

    yield run
    signal.signal(signal.SIGTERM, former)


def test_nothing_unsaved(send):
    ((code, line),) = send(1, [False], 4 * GRACE)
    assert code == 143
    assert "SIGTERM" in line
    assert "\n" not in line


def test_who_leaves_in_time_is_left_alone(send):
    assert send(1, [False], 0.0) == []
    assert send(0, [False], 4 * GRACE) == []


def test_unsaved_steps_are_waited_for(send):
    assert send(1, [True], 4 * GRACE) == []


def test_a_second_signal_ends_in_any_case(send):
    ((code, line),) = send(2, [True], 4 * GRACE)
    assert code == 143
    assert "second" in line


def test_the_former_descriptor_comes_back(send):
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    send(0, [False], 0.0)
    assert signal.set_wakeup_fd(before) == before


BUSY = """
import numpy as np
from distill_cli.train.signals import stop_requests
with stop_requests(at_once=True):
    print("in", flush=True)
    np.linalg.svd(np.random.default_rng(0).normal(size=(9000, 9000)))
"""


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_inside_a_native_call(number):
    """Blocked there for a minute, as by whitening or a long step."""
    argv = [sys.executable, "-c", BUSY]
    running = subprocess.Popen(argv, stdout=-1, stderr=-1, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "in\n"
    time.sleep(1)
    begun = time.monotonic()
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert time.monotonic() - begun < 30  # by itself it takes minutes
    assert err.splitlines()[-1].startswith(f"stopped: by {number.name}")
