"""Networks shared out over devices: the same figures, bit for bit, on any number of them."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from distill_cli.core import devices, sharing
from distill_cli.core.sharing import share_out

HERE = Path(__file__).parent


@pytest.mark.process
def test_figures_do_not_depend_on_the_number_of_devices():
    """1, 2 and 4 devices, shares of unequal size: rows in order, accuracies, rates and weights."""
    done = subprocess.run(
        [sys.executable, str(HERE / "sharing_program.py"), "1", "2", "4"],
        capture_output=True, text=True, timeout=300,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parents[1] / "src"),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "JAX_PLATFORMS": "cpu",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["2"] == found["1"] and found["4"] == found["1"]
    weights = found["1"]["dc weights"]
    assert len(set(weights)) == len(weights) == 5  # networks that differ, so that order shows


@pytest.fixture
def three_devices(monkeypatch):
    """Three threads on what is here; places are only compared by the test above."""
    device = jax.devices()[0]
    monkeypatch.setattr(sharing, "places", lambda: (device, device, device))


def test_results_stay_in_order_and_progress_never_falls(three_devices):
    seen, names = [], set()
    barrier = threading.Barrier(3, timeout=30)

    def work(index, tell):
        if index < 3:
            barrier.wait()  # three pieces are under way at the same time
        names.add(threading.current_thread().name)
        for part in (0.25, 0.75, 0.5, 1.0):
            tell(part, f"piece {index}")
        return int(jnp.sum(jnp.arange(index + 1)))

    results = share_out(work, 7, lambda message, fraction: seen.append((message, fraction)))
    assert results == [0, 1, 3, 6, 10, 15, 21]
    assert len(names) == 3
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert {message for message, _ in seen} == {"", *(f"piece {index}" for index in range(7))}


def test_one_device_works_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(sharing, "places", lambda: (jax.devices()[0],))

    def work(index, tell):
        tell(1.0, str(index))
        return threading.current_thread(), index

    seen = []
    results = share_out(work, 3, lambda message, fraction: seen.append((message, fraction)))
    assert results == [(threading.main_thread(), index) for index in range(3)]
    assert seen == [("0", pytest.approx(1 / 3)), ("1", pytest.approx(2 / 3)), ("2", 1.0)]


class Place(NamedTuple):
    platform: str
    process_index: int = 0


@pytest.mark.parametrize(("platform", "count"), [("cpu", 1), ("gpu", 4)])
def test_devices_of_a_cpu_are_one_place(monkeypatch, platform, count):
    """Those of another process are not counted."""
    chosen = (Place(platform),) * 4 + (Place(platform, 1),) * 2
    monkeypatch.setattr(devices, "chosen", lambda: chosen)
    assert len(sharing.places()) == count


@pytest.mark.parametrize("where", ["work", "report"])
def test_an_error_ends_all_pieces_and_comes_out(three_devices, where):
    """Also one that the report raises, as it does when a signal has come."""
    started, finished = [], []

    def report(message, fraction):
        if where == "report" and message == "1":
            raise ValueError("stopped")

    def work(index, tell):
        started.append(index)
        if index == 1 and where == "work":
            raise ValueError("stopped")
        while index != 1:
            tell(0.5, str(index))  # until the error of piece 1 ends it
        tell(0.5, str(index))
        finished.append(index)

    with pytest.raises(ValueError, match="stopped"):
        share_out(work, 9, report)
    assert finished == [] and set(started) <= {0, 1, 2}
