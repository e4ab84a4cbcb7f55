"""distill-apply continual through the command: agreement with distill, all arms, 100 classes."""

import json
from pathlib import Path

import numpy as np
import pytest

from apply_runs import TINY, check_page, result_of
from distill_cli.apply.continual import class_order


def test_continual_with_one_step_is_the_ordinary_selection(command, tmp_path):
    """All classes at once, order 0: the random arm is method=random with the same seed."""
    options = [*TINY, "evaluation=[krr_nngp]"]
    done = command("distill-apply", "continual", *options, "increments=1", "orders=[0]",
                   "memory=2", "arms=[random]")  # fmt: skip
    assert done.code == 0, done.err
    (row,) = result_of(tmp_path, "continual")[1]["rows"]
    plain = command("distill", "method=random", "ipc=2", "evaluation=[krr_nngp]",
                    "architecture.width=8", "progress=none")  # fmt: skip
    assert plain.code == 0, plain.err
    others = [json.loads(f.read_text()) for f in (tmp_path / "outputs/random").rglob("result.json")]
    (expected,) = [r["evaluations"][0]["accuracy"] for r in others if r["evaluations"]]
    assert row["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert row["groups"] == [pytest.approx(expected, abs=1e-6)]


@pytest.mark.slow
def test_continual_on_digits_with_all_arms(command, tmp_path):
    done = command(
        "distill-apply", "continual", *TINY, "increments=2", "orders=[0,3]", "memory=2",
        "evaluation=[krr_nngp,frepo]", "evaluation.frepo.steps=10", "evaluation.frepo.width=4",
        "evaluation.networks=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    folder, found = result_of(tmp_path, "continual")
    for arm in ("random", "herding", "distilled"):
        for protocol, networks in (("krr_nngp", 1), ("frepo", 2)):
            rows = [r for r in found["rows"] if (r["arm"], r["protocol"]) == (arm, protocol)]
            assert len(rows) == 2 * 2 * networks
            assert {r["classes"] for r in rows} == {5, 10}
    for row in found["summary"]:
        assert row["n"] == (2 if row["protocol"] == "krr_nngp" else 4)
        assert (row["forgetting"] is None) == (row["step"] == 0)
    for row in found["rows"]:  # groups of equal size up to the classes' sizes
        assert min(row["groups"]) - 1e-9 <= row["accuracy"] <= max(row["groups"]) + 1e-9
    first = found["orders"]["3"][0]
    assert first == sorted(class_order(3, 10)[:5])
    check_page(folder)


@pytest.mark.parametrize(
    ("increments", "size"), [(5, 20), pytest.param(10, 10, marks=pytest.mark.slow)]
)
def test_a_hundred_classes_come_in_the_published_orders(command, tmp_path, increments, size):
    """The wiring of CIFAR-100, on images that show their class by construction."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(100), 6)
    means = rng.normal(size=(100, 8, 8, 1))
    images = np.clip(0.5 + 0.2 * means[labels] + 0.01 * rng.normal(size=(600, 8, 8, 1)), 0, 1)
    np.savez(
        tmp_path / "hundred.npz", x_train=images[:400].astype(np.float32), y_train=labels[:400],
        x_test=images[400:].astype(np.float32), y_test=labels[400:],
    )  # fmt: skip
    done = command(
        "distill-apply", "continual", "dataset=npz", f"dataset.path={tmp_path / 'hundred.npz'}",
        "dataset.name=hundred", "architecture.width=4", "architecture.depth=1", "memory=2",
        f"increments={increments}", "orders=[4]", "arms=[random]", "evaluation=[krr_nngp]",
        "progress=none",
    )  # fmt: skip
    assert done.code == 0, done.err
    _, found = result_of(tmp_path, "continual")
    steps = found["orders"]["4"]
    assert [len(step) for step in steps] == [size] * increments
    assert set(steps[0]) >= {20, 10, 96, 16, 63, 24}
    rows = found["rows"]
    assert [r["classes"] for r in rows] == list(range(size, 101, size))
    assert [r["images"] for r in rows] == [2 * c for c in range(size, 101, size)]
    assert min(r["accuracy"] for r in rows) > 0.9  # labels of different steps fit together
    for one in found["coresets"]:
        with np.load(Path(one["folder"]) / "coreset" / "coreset.npz") as file:
            assert file["labels"].shape == (2 * size, 100)
            assert sorted(set(file["labels"].argmax(1))) == one["classes"]
