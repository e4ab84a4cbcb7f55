"""The applications through their command: results, agreement with other commands, resuming."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from distill_cli.apply.continual import class_order
from distill_cli.apply.privacy import frozen_mask

TINY = [
    "architecture.width=8", "kernel.networks=1", "batch.size=64", "validation.every=10",
    "validation.networks=1", "steps=10", "method.transform=false", "progress=none",
]  # fmt: skip


def result_of(tmp_path: Path, application: str) -> tuple[Path, dict]:
    (file,) = (tmp_path / "outputs" / "apply" / application).rglob("result.json")
    return file.parent, json.loads(file.read_text())


def coreset(folder: str | Path, name: str = "coreset") -> np.ndarray:
    with np.load(Path(folder) / "coreset" / f"{name}.npz") as found:
        return found["images"]


def check_page(folder: Path) -> None:
    """The page stands by itself."""
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page


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


@pytest.mark.parametrize(("increments", "size"), [(5, 20), (10, 10)])
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
