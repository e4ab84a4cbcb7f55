"""Runs whose sampler keeps a state, stopped between two refreshes, resume bit for bit."""

import signal

import jax
import numpy as np
import pytest

from distill_cli.errors import RunStopped
from distill_cli.train import loop
from distill_cli.train.checkpoint import Checkpoints, Identity
from distill_cli.train.growth import Part
from distill_cli.train.progress import Silent
from distill_cli.train.tracking import Tracker, read
from sampler_problem import IMAGES, LABELS, Mean, parsed, start, training


class StopAfter:
    """A stop request that comes when it is looked at for the n-th time."""

    signal, exit_code = signal.SIGTERM, 143

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __bool__(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def agree(self, due: bool, mark: bytes) -> bool:
        return due


def run(folder, config, looks: int, parts=None):
    checkpoints = Checkpoints(folder / "checkpoints", Identity("1", "2", "3"), 2)
    return loop.run(
        config, parts or [Part(0, config, Mean())], start(), training(), (IMAGES[:9], LABELS[:9]),
        checkpoints, lambda at: Tracker(folder / "metrics.jsonl", at), Silent(), StopAfter(looks),  # type: ignore
    )  # fmt: skip


@pytest.mark.parametrize("name", ["uniform", "loss_importance", "kmeans_batch"])
def test_resumes_bit_for_bit(name, tmp_path):
    options = ["sampler.balanced=true"] if name == "uniform" else ["sampler.refresh=6"]
    config = parsed("steps=16", f"sampler={name}", "checkpoint.seconds=1000", *options)
    for part in ("whole", "cut"):
        (tmp_path / part).mkdir()
    whole = run(tmp_path / "whole", config, 1000)
    with pytest.raises(RunStopped, match="at step 8"):
        run(tmp_path / "cut", config, 2 if name == "uniform" else 4)
    cut = run(tmp_path / "cut", config, 1000)
    assert (whole.step, cut.step) == (16, 16)
    jax.tree.map(np.testing.assert_array_equal, whole.best, cut.best)

    def metrics(part: str) -> list[dict]:
        rows = read(tmp_path / part / "metrics.jsonl")
        clocks = ("seconds", "cpu_seconds", "sampler_seconds", "steps_per_second")
        return [{k: v for k, v in row.items() if k not in clocks} for row in rows]

    assert metrics("whole") == metrics("cut")
    refreshed = [row["step"] for row in read(tmp_path / "cut" / "metrics.jsonl")
                 if "sampler_seconds" in row]  # fmt: skip
    assert refreshed == ([] if name == "uniform" else [0, 6, 12])
