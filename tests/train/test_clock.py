"""Seconds of a run over its sittings."""

import json
import time

import pytest
from test_sampler_resume import run

from distill_cli.errors import RunStopped
from distill_cli.train.clock import Clock
from sampler_problem import parsed


def test_wall_and_processor_time_apart():
    clock = Clock()
    time.sleep(0.2)
    assert 0.2 <= clock.seconds < 10 and clock.cpu_seconds < 0.1
    begun = time.process_time()
    while time.process_time() - begun < 0.2:
        pass
    assert clock.cpu_seconds >= 0.2
    clock.go_on(100, 50)
    assert set(clock.read()) == {"seconds", "cpu_seconds"}
    assert 100.4 <= clock.seconds < 120 and 50.2 <= clock.cpu_seconds < 60


def test_a_resumed_run_counts_what_was_spent_before(tmp_path):
    """Also where the checkpoint does not say, as before these seconds were written."""
    config = parsed("steps=16", "checkpoint.seconds=1000")
    for told in (True, False):
        folder = tmp_path / str(told)
        folder.mkdir()
        with pytest.raises(RunStopped):
            run(folder, config, 2)
        record = next((folder / "checkpoints").glob("*/record/metadata"))
        about = json.loads(record.read_text())
        assert 0 < about["notes"]["cpu_seconds"] < 1000
        about.pop("notes")
        record.write_text(json.dumps(about | ({"notes": {"cpu_seconds": 7000.0}} if told else {})))
        outcome = run(folder, config, 1000)
        assert (outcome.cpu_seconds > 7000) == told and outcome.seconds > 0
