"""The applications through their command: results, agreement with other commands, resuming."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from apply_runs import TINY, check_page, result_of
from distill_cli.apply.privacy import frozen_mask


def coreset(folder: str | Path, name: str = "coreset") -> np.ndarray:
    with np.load(Path(folder) / "coreset" / f"{name}.npz") as found:
        return found["images"]


def test_explain_agrees_with_the_evaluation_of_the_run(command, tmp_path):
    assert command("distill", *TINY, "evaluation=[krr_nngp]").code == 0
    (file,) = (tmp_path / "outputs" / "rfad").rglob("result.json")
    options = [f"coreset={file.parent}", "train_images=50", "shown=3", "table=20"]
    done = command("distill-apply", "explain", *options)
    assert done.code == 0, done.err
    folder, found = result_of(tmp_path, "explain")
    expected = json.loads(file.read_text())
    (row,) = expected["evaluations"]
    assert found["accuracy"] == pytest.approx(row["accuracy"], abs=1e-6)  # float32 there
    assert found["coreset"]["sha256"] == expected["coreset"]["sha256"]
    assert found["largest_gap_of_the_sum"] < 1e-9
    assert sum(r["top_share"] for r in found["rows"]) == pytest.approx(1)
    assert sum(r["served_train_share"] for r in found["rows"]) == pytest.approx(1)
    with (folder / "contributions.csv").open() as file_:
        lines = list(csv.DictReader(file_))
    assert len(lines) == 20 * 10
    assert sorted(int(line["rank"]) for line in lines[:10]) == list(range(1, 11))
    for name in ("strips.png", "elements.png", "summary.png", "elements.csv"):
        assert (folder / name).stat().st_size > 100
    check_page(folder)
    again = command("distill-apply", "explain", *options)
    assert "finished before" in again.out
    (folder / "strips.png").unlink()
    again = command("distill-apply", "explain", *options)
    assert "finished before" not in again.out and (folder / "strips.png").is_file()
    random = command("distill-apply", "explain", *options, "kernel=random_features", "draws=2",
                     "networks=2")  # fmt: skip
    assert random.code == 0, random.err
    assert "between kernel draws" in random.out


def test_privacy_keeps_the_noise_and_measures_all_arms(command, tmp_path):
    options = [*TINY, "rho=[0.9]", "evaluation=[krr_nngp]", "panel=3", "networks=1",
               "evaluation.limit=100", "dataset.limit_train=400"]  # fmt: skip
    done = command("distill-apply", "privacy", *options)
    assert done.code == 0, done.err
    folder, found = result_of(tmp_path, "privacy")
    arms = {(r["arm"], r["rho"]) for r in found["rows"]}
    assert arms == {
        ("distilled", 0.9), ("masked_real", 0.9), ("noise_labels", 1.0), ("random_real", 0.0),
    }  # fmt: skip
    for one in found["coresets"]:
        final, initial = coreset(one["folder"]), coreset(one["folder"], "initial")
        mask = frozen_mask(0, initial, one["rho"])
        np.testing.assert_array_equal(final[mask], initial[mask])
        assert one["rho"] == 1 or (final[~mask] != initial[~mask]).any()
    distances = {(r["set"], r["space"]): r["median"] for r in found["distances"]}
    assert distances["masked_real", "free_pixels"] < 1e-3  # copies, where nothing is noise
    assert distances["masked_real", "pixels"] > 0.3  # which the noise hides
    assert distances["held_out", "pixels"] > 0.1
    assert distances["noise", "pixels"] > distances["held_out", "pixels"]
    check_page(folder)
    # As after a kill behind the last distillation: everything made is found again.
    before = (folder / "progress.json").read_bytes()
    (folder / "result.json").unlink()
    again = command("distill-apply", "privacy", *options)
    assert again.code == 0, again.err
    assert (folder / "progress.json").read_bytes() == before
    repeated = result_of(tmp_path, "privacy")[1]
    assert repeated["rows"] == found["rows"]
    assert repeated["distances"] == found["distances"]


def test_membership_attacks_the_optimised_set(command, tmp_path):
    options = [
        *TINY, "chunk=300", "chunks=[1]", "lengths=[5,20]", "width=4", "batch=50", "folds=2",
        "augmentation=none", "grid=small", "attacks=[loss,knn]", "bootstrap=50", "outsiders=train",
    ]  # fmt: skip
    done = command("distill-apply", "membership", *options)
    assert done.code == 0, done.err
    folder, found = result_of(tmp_path, "membership")
    assert {(r["arm"], r["length"]) for r in found["rows"]} == {
        (arm, length) for arm in ("distilled", "raw", "subset") for length in (5, 20)
    }
    assert [r["images"] for r in found["rows"]] == [10, 10, 300, 300, 10, 10]
    for row in found["rows"]:
        for attack in row["attacks"].values():
            assert attack["low"] <= attack["auc"] <= attack["high"]
    (made,) = found["coresets"]
    assert "dataset.rows=[300,600]" in made["command"]
    assert (coreset(made["folder"]) != coreset(made["folder"], "initial")).any()
    assert [r["arm"] for r in found["matched"]] == ["distilled", "raw", "subset"]
    check_page(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["membership", "steps=0", "chunk=300", "chunks=[0]"], "the one it started from"),
        (["membership", "chunk=1000", "chunks=[0,1]"], "chunk 1 of 1000 images ends at 2000"),
        (["membership", "attacks=[lira]"], "apply.attacks"),
        (["privacy", "rho=[1.5]"], "apply.rho[0]=1.5: must lie in"),
        (["privacy", "method=dm"], "method=dm: has no corruption"),
        (["privacy", "rho=0.5"], "apply.rho"),
        (["continual", "evaluation=finite"], "evaluation=finite: continual measures with"),
        (["continual", "increments=3"], "10 classes cannot be cut"),
        (["continual", "arms=[gdumb]"], "apply.arms"),
        (["explain", "coreset=nowhere"], "coreset=nowhere"),
        (["explain"], "coreset: missing"),
    ],
)
def test_bad_input_is_one_line_and_code_2(command, tmp_path, arguments, message):
    typed = [a for a in TINY if not (arguments[0] == "privacy" and "method" in arguments[-1]
             and a.startswith("method."))]  # fmt: skip
    typed = [a for a in typed if a.split("=")[0] not in {b.split("=")[0] for b in arguments}]
    if arguments[0] == "explain":
        typed = []
    done = command("distill-apply", *arguments, *typed)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list((tmp_path / "outputs").rglob("apply/*/*/*/result.json"))
