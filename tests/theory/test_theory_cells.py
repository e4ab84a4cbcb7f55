"""Checks 4 to 8 of the reference, on whole cells of moderate size."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from distill_cli.theory import artefact
from distill_cli.theory.bench import Memory, run_cell
from distill_cli.theory.config import CellConfig

BASE = CellConfig(
    d=20, r=2, L=256, n=60_000, pool=2048, batch=256, readout=12_000, test=8_000, measure=()
)


@pytest.fixture(scope="module")
def cell():
    """cell(key=value, ...) runs the base cell with changes; what cells share is kept."""
    memory = Memory(40)
    return lambda **changes: run_cell(dataclasses.replace(BASE, **changes), memory)


@pytest.fixture(scope="module")
def row(cell):
    return lambda **changes: cell(**changes).rows[0]


def test_the_base_case_finds_the_subspace_and_start_points_do_not(row):
    found, start = row(), row(control="undistilled")
    assert found["overlap"] > 0.99 and found["mse_d1_ridge"] < 0.03
    assert start["mse_d1_ridge"] > 0.7 and start["overlap"] < 0.4
    assert found["mse_lazy"] > 5 * found["mse_d1_ridge"]


def test_as_many_labels_as_neurons_are_enough_and_a_quarter_is_not(row):
    enough = row(measure=("d2",))
    quarter = row(measure=("d2",), m2=BASE.L // 4)
    error = enough["mse_d1_ridge"]
    assert abs(enough["mse_d1_d2"] - error) < 0.1 * error + 0.001
    assert quarter["mse_d1_d2"] > 2 * error


def test_labels_near_the_target_serve_another_network(row):
    """Features on one direction leave labels free, which without a pull are large."""
    near, free = (row(r=1, measure=("d2", "new_init"), label_pull=pull) for pull in (1e-5, 1e-8))
    assert near["label_rms"] < 2 < free["label_rms"]
    assert near["mse_new_init_d2"] < 0.2 * free["mse_new_init_d2"]
    assert abs(near["mse_d1_d2"] - free["mse_d1_d2"]) < 0.002


def test_shuffled_labels_and_the_cubic_link_fail(row):
    assert row(control="shuffled")["mse_d1_ridge"] > 0.7
    assert row(link="cubic")["mse_d1_ridge"] > 0.3


def test_without_its_part_in_the_subspace_the_data_are_worthless(row):
    removed = row(control="removed")
    assert removed["overlap"] < 1e-6 and removed["mse_d1_ridge"] > 0.7
    assert row(control="projected")["mse_d1_ridge"] < 0.03


def test_saddle_with_one_step(row):
    assert row(link="saddle", variant="one_step", m1=8)["overlap"] > 0.97


def test_more_points_are_needed_for_more_directions(row):
    errors = {r: row(r=r, variant="one_step", m1=8)["mse_d1_ridge"] for r in (1, 3)}
    assert errors[3] > 2 * errors[1]


@pytest.mark.parametrize("variant", ["multi_step", "one_step"])
def test_numbers_are_counted_from_the_file(cell, tmp_path, variant):
    done = cell(variant=variant, measure=("d2",), m2=100, m1=8)
    artefact.save(tmp_path / "d.npz", done.artefacts[0])
    with np.load(tmp_path / "d.npz") as arrays:
        total = sum(arrays[name].size for name in arrays.files if name != "meta")
    d = BASE.d
    # One step keeps no labels, all 1, and of its pairs the first halves and their common centre.
    first = 8 * (d + 1) if variant == "multi_step" else (8 // 2 + 1) * d
    assert total == done.rows[0]["floats"] == first + 100 + d + 1


@pytest.mark.process
def test_a_fresh_process_trains_the_same_student_from_the_file_alone(cell, tmp_path):
    done = cell(measure=("d2",))
    artefact.save(tmp_path / "d.npz", done.artefacts[0])
    code = (
        "from distill_cli.tasks.theory import retrain\n"
        "print(repr(retrain('d.npz', lambda text: None)['mse_d1_d2']))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(out.stdout) == done.rows[0]["mse_d1_d2"]


def test_half_precision_changes_nothing_and_bytes_shrink(row):
    full = row(measure=("d2",))
    half = row(measure=("d2",), precision_d1="float16", precision_labels="float16")
    assert half["mse_d1_d2"] == pytest.approx(full["mse_d1_d2"], rel=0.1)
    assert half["floats"] == full["floats"] and half["bytes"] < 0.6 * full["bytes"]


def test_first_layer_data_transfer_and_beat_real_points_of_the_same_memory(row):
    found = row(measure=("d2", "new_init", "equal_memory"))
    assert found["mse_new_init"] < found["mse_d1_ridge"] + 0.02
    assert found["mse_new_init_span"] < 0.1
    assert found["mse_equal_memory_real"] > 20 * found["mse_d1_d2"]
    assert found["subset"] == found["floats"] // (BASE.d + 1)


def test_seeds_together_are_seeds_alone(cell):
    small = {"d": 8, "n": 5000, "pool": 512, "readout": 2000, "test": 2000, "m1": 4, "steps": 50}
    both = cell(**small, seed=(0, 5)).rows
    alone = cell(**small, seed=(5,)).rows[0]
    assert [row["seed"] for row in both] == [0, 5]
    assert both[1]["mse_d1_ridge"] == pytest.approx(alone["mse_d1_ridge"], rel=1e-2)
    assert both[0]["mse_d1_ridge"] != both[1]["mse_d1_ridge"]


def test_the_same_cell_gives_the_same_bits(cell):
    small = {"d": 8, "n": 5000, "pool": 512, "readout": 2000, "test": 2000, "steps": 50}
    config = dataclasses.replace(BASE, **small)
    first, second = (run_cell(config).rows[0] for _ in range(2))
    for one in (first, second):
        one.pop("seconds")
    assert first == second
