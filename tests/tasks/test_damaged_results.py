"""A finished run whose files were edited or deleted: the same command mends it."""

import json

import pytest

from distill_cli.report import FILES
from distill_cli.report.damage import damage
from tiny import TINY

WORDS = (*TINY, "evaluation=[krr_nngp,krr_ntk]", "evaluation.limit=20")


@pytest.fixture
def made(command, tmp_path):
    assert command("distill", *WORDS).code == 0
    (result,) = tmp_path.rglob("result.json")
    return result.parent


def test_a_value_out_of_range_is_measured_again(command, made):
    file = made / "result.json"
    found = json.loads(file.read_text())
    right = [row["accuracy"] for row in found["evaluations"]]
    found["evaluations"][1]["accuracy"] = 7
    file.write_text(json.dumps(found))
    done = command("distill", *WORDS)
    assert done.code == 0
    assert "accuracy of krr_ntk is 7, not in [0, 1]; it is measured again" in done.err
    assert "700" not in done.out
    again = json.loads(file.read_text())["evaluations"]
    assert [row["accuracy"] for row in again] == right


def test_files_that_are_gone_are_written_again(command, made):
    names = [*FILES, "coreset/preprocess.npz", "coreset/initial.npz"]
    before = {name: (made / name).read_bytes() for name in names}
    for name in names:
        (made / name).unlink()
    done = command("distill", *WORDS)
    assert "finished before" in done.out
    assert {name: (made / name).read_bytes() for name in names} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best_step": 21}, "best_step is 21, not in [0, 20]"),
        ({"steps": -1}, "steps is -1, not at least 0"),
        ({"best_step": None}, "best_step is None"),
        ({"validation": {"accuracy": 7}}, "validation.accuracy is 7, not in [0, 1]"),
    ],
)
def test_what_a_run_cannot_have_been_comes_from_its_checkpoint(command, made, change, said):
    file = made / "result.json"
    before = json.loads(file.read_text())
    file.write_text(json.dumps(before | change))
    done = command("distill", *WORDS)
    assert done.code == 0, done.err
    assert f"damaged, {said}" in done.err and "from the last checkpoint" in done.err
    after = json.loads(file.read_text())
    for key in ("steps", "best_step", "validation", "coreset"):
        assert after[key] == before[key]
    accuracies = [[row["accuracy"] for row in found["evaluations"]] for found in (before, after)]
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize("change", [{"code": 5}, {"validation": None}, {"seconds": 3}])
def test_keys_of_another_kind(command, made, change):
    file = made / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    done = command("distill", *WORDS)
    assert done.code == 0, done.err
    assert "finished before" in done.out


ROW = {"protocol": "p", "accuracy": 0.5, "std": None, "nll": 1.2, "ece": 0.1, "images": 10,
       "baseline_random": {"accuracy": 0.4, "std": 0.1, "n": 3}}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"accuracy": 7}, "accuracy of p is 7, not in [0, 1]"),
        ({"accuracy": -0.1}, "accuracy of p is -0.1, not in [0, 1]"),
        ({"accuracy": None}, "accuracy of p is None, not in [0, 1]"),
        ({"accuracy": "0.5"}, "accuracy of p is 0.5, not in [0, 1]"),
        ({"std": -1.0}, "std of p is -1.0, not at least 0"),
        ({"nll": float("nan")}, "nll of p is nan, not at least 0"),
        ({"images": -4}, "images of p is -4, not at least 1"),
        ({"n": 0}, "n of p is 0, not at least 1"),
        ({"ece": 1.5}, "ece of p is 1.5, not in [0, 1]"),
        ({"nll": None, "ece": None}, None),
        ({"baseline_random": {"accuracy": 40}},
         "baseline_random.accuracy of p is 40, not in [0, 1]"),
        ({"baseline_random": None}, None),
    ],
)  # fmt: skip
def test_what_cannot_have_been_measured(change, said):
    assert damage(ROW | change) == said
