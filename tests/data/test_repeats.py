"""Test images that are training images too."""

import json

import numpy as np
import pytest

from distill_cli.data.repeats import repeated

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (40, 6, 6, 1), dtype=np.uint8)


def test_counts_against_a_slow_comparison():
    test = np.concatenate([IMAGES[[3, 3, 7]], rng.integers(0, 256, (9, 6, 6, 1), dtype=np.uint8)])
    slow = sum(any(np.array_equal(a, b) for b in IMAGES) for a in test)
    assert repeated(IMAGES, test) == slow == 3


def test_other_sizes_and_types_share_nothing():
    assert repeated(IMAGES, IMAGES.reshape(40, 4, 9, 1)) == 0
    assert repeated(IMAGES, IMAGES.astype(np.float32)) == 0


@pytest.mark.parametrize("leak", [0, 12])
def test_they_are_named_and_recorded(command, tmp_path, leak):
    labels = np.arange(40) % 4
    own = rng.integers(0, 256, (20, 6, 6, 1), dtype=np.uint8)
    own[:leak] = IMAGES[:leak]
    np.savez(tmp_path / "own.npz", x_train=IMAGES, y_train=labels, x_test=own, y_test=labels[:20])
    done = command(
        "distill", "dataset=npz", f"dataset.path={tmp_path}/own.npz", "dataset.name=own",
        "method=random", "architecture.depth=1", "evaluation=none", "progress=plain",
    )  # fmt: skip
    assert done.code == 0, done.err
    said = f"{leak} of 20 test images are training images too"
    assert (said in done.err) == bool(leak)
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["training"]["also_tested"] == leak
