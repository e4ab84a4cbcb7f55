"""The main job through the command: result, files, properties of the whole."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TINY = [
    "steps=40", "architecture.width=8", "kernel.networks=2", "batch.size=64",
    "validation.every=20", "validation.networks=2", "progress=plain",
]  # fmt: skip


def folder_of(tmp_path: Path, out: str = "outputs") -> Path:
    (file,) = (tmp_path / out).rglob("result.json")
    return file.parent


def test_digits_end_to_end(command, tmp_path):
    """The README's first command: exact NNGP accuracy at least 0.94, every promised file."""
    done = command("distill")
    assert done.code == 0, done.err
    folder = folder_of(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    rows = {row["protocol"]: row for row in result["evaluations"]}
    assert rows.keys() == {"krr_nngp", "krr_ntk", "finite"}
    assert rows["krr_nngp"]["accuracy"] >= 0.94
    assert rows["krr_ntk"]["accuracy"] >= 0.93
    for row in rows.values():
        assert row["accuracy"] > row["baseline_random"]["accuracy"] + 0.15
        assert row["images"] == 359
        assert row["split"] == "test"
    assert result["schema"] == 1
    assert (result["method"], result["dataset"], result["ipc"], result["seed"]) == (
        "rfad", "digits", 1, 0,
    )  # fmt: skip
    assert result["coreset"]["images"] == [10, 8, 8, 1]
    assert result["coreset"]["stored_floats"] == 10 * 64 + 100 + 1
    assert result["seconds"]["total"] > 0
    assert result["peak_memory_mb"]["host"] > 0
    assert result["best_step"] % 40 == 0
    promised = (
        "metrics.jsonl", "distill.log", "report.html", "citations.bib", "coreset/coreset.npz",
        "coreset/initial.npz", "coreset/preprocess.npz", "coreset/images.png", "coreset/card.md",
        "coreset/load.py", "checkpoints", ".hydra/config.yaml",
    )  # fmt: skip
    for name in promised:
        assert (folder / name).exists(), name
    assert "krr_nngp" in done.out
    assert "validation" in done.out
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert all(value is None or math.isfinite(value) for value in json.loads(line).values())
    finished = command("distill")
    assert "finished before" in finished.out
    alone = subprocess.run(
        [sys.executable, str(folder / "coreset" / "load.py")],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert alone.returncode == 0, alone.stderr
    assert "10" in alone.stdout

    evaluated = command("distill-evaluate", f"coreset={folder}", "evaluation=[krr_nngp]")
    assert evaluated.code == 0, evaluated.err
    (file,) = (tmp_path / "outputs" / "evaluate").rglob("evaluation.json")
    again = json.loads(file.read_text())["evaluations"][0]
    assert again["accuracy"] == rows["krr_nngp"]["accuracy"]
    assert again["baseline_random"]["accuracy"] == rows["krr_nngp"]["baseline_random"]["accuracy"]


def test_another_evaluation_of_a_finished_run_only_evaluates(command, tmp_path):
    assert command("distill", *TINY, "evaluation=[krr_nngp]", "evaluation.limit=50").code == 0
    folder = folder_of(tmp_path)
    before = (folder / "coreset" / "coreset.npz").read_bytes()
    done = command("distill", *TINY, "evaluation=[krr_ntk,krr_nngp]", "evaluation.limit=60")
    assert done.code == 0, done.err
    assert folder_of(tmp_path) == folder
    assert (folder / "coreset" / "coreset.npz").read_bytes() == before
    rows = json.loads((folder / "result.json").read_text())["evaluations"]
    assert [row["protocol"] for row in rows] == ["krr_ntk", "krr_nngp"]
    assert [row["images"] for row in rows] == [60, 60]
    assert "step 20" not in done.out
    assert "folder" not in json.loads((folder / "result.json").read_text())


def npz_data(path: Path, seed: int = 0, shuffle_test: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    y = np.arange(90) % 3
    centres = rng.uniform(0, 255, (3, 8, 8, 1))
    x = np.clip(centres[y] + rng.normal(0, 40, (90, 8, 8, 1)), 0, 255).astype(np.uint8)
    test = slice(60, 90)
    y_test = rng.permutation(y[test]) if shuffle_test else y[test]
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[test], y_test=y_test)
    return path


def test_test_data_cannot_change_the_coreset(command, tmp_path):
    """Other test labels under the same path: same coreset, other accuracy."""
    own = ["dataset=npz", "dataset.path=data.npz", "architecture.depth=2", "evaluation=[krr_nngp]"]
    found = []
    for shuffled in (False, True):
        npz_data(tmp_path / "data.npz", shuffle_test=shuffled)
        done = command("distill", f"out=o{shuffled}", *own, *TINY)
        assert done.code == 0, done.err
        folder = folder_of(tmp_path, f"o{shuffled}")
        accuracy = json.loads((folder / "result.json").read_text())["evaluations"][0]["accuracy"]
        found.append(((folder / "coreset" / "coreset.npz").read_bytes(), accuracy))
    assert found[0][0] == found[1][0]
    assert found[0][1] > found[1][1]


def test_image_folder_with_three_channels_and_two_classes(command, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 200)):
        place = tmp_path / "photos" / label
        place.mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(base + rng.normal(0, 20, (9, 7, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    done = command(
        "distill", "dataset=folder", "dataset.path=photos", "architecture.depth=1", *TINY,
        "evaluation=[krr_nngp]",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads((folder_of(tmp_path) / "result.json").read_text())
    assert result["class_names"] == ["dark", "light"]
    assert result["evaluations"][0]["accuracy"] == 1.0


def test_a_loss_that_breaks_down_stops_the_run_and_keeps_the_last_state(command, tmp_path):
    done = command(
        "distill", *TINY, "evaluation=none", "checkpoint.seconds=0",
        "method.learning_rates.images=1e30",
    )  # fmt: skip
    assert done.code == 1
    assert "loss is nan at step 1" in done.err
    assert "checkpoint of step 0 is kept" in done.err
    assert [p.name for p in next((tmp_path / "outputs").rglob("checkpoints")).iterdir()] == ["0"]


def test_a_full_disk_ends_with_a_message_and_the_last_good_checkpoint(command, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        done = command(
            "distill",
            f"out={disk}",
            *TINY,
            "evaluation=none",
            "checkpoint.seconds=0",
            "steps=4000",
            "architecture.width=8",
        )
        assert done.code == 1
        assert "cannot write" in done.err
        assert len(done.err.strip().splitlines()) == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_failed_checkpoint_keeps_the_former_one(tmp_path, monkeypatch):
    from distill_cli.errors import StorageError
    from distill_cli.train.checkpoint import Checkpoints, Identity

    checkpoints = Checkpoints(tmp_path / "c", Identity("1", "d", "f"), 2)
    tree = {"a": np.arange(4.0), "b": np.zeros((), np.int32)}
    checkpoints.save(10, tree)

    class Full:
        def __init__(self, *args, **named): ...
        def __enter__(self):
            raise OSError(28, "No space left on device")

        def __exit__(self, *args): ...

    with monkeypatch.context() as full:
        full.setattr(checkpoints._ocp, "Checkpointer", Full)
        with pytest.raises(
            StorageError, match="No space left on device; the last good checkpoint is step 10"
        ):
            checkpoints.save(20, tree)
    found = checkpoints.restore(tree)
    assert found is not None
    assert found[0] == 10
    np.testing.assert_array_equal(found[1]["a"], tree["a"])


def test_two_runs_of_one_configuration_do_not_meet(command, tmp_path):
    from distill_cli.core.lock import locked

    assert command("distill", *TINY, "evaluation=none").code == 0
    folder = folder_of(tmp_path)
    (folder / "result.json").unlink()
    with locked(folder):
        done = command("distill", *TINY, "evaluation=none")
    assert done.code == 2
    assert "another distill is running" in done.err
    assert (folder / "coreset" / "coreset.npz").exists()


def test_sweep_runs_every_cell(command, tmp_path):
    done = command("distill", "-m", "ipc=1,2", "seed=0,1", *TINY, "evaluation=none")
    assert done.code == 0, done.err
    assert len(list((tmp_path / "outputs").rglob("result.json"))) == 4


def test_python_has_the_same_options_and_results(command, tmp_path):
    from distill_cli import UserError, distill, evaluate, load_coreset

    assert command("distill", *TINY, "evaluation=[krr_nngp]").code == 0
    by_command = json.loads((folder_of(tmp_path) / "result.json").read_text())
    result = distill(*TINY, out="python", evaluation=["krr_nngp"], progress="none")
    assert result["evaluations"][0]["accuracy"] == by_command["evaluations"][0]["accuracy"]
    assert result["coreset"]["sha256"] == by_command["coreset"]["sha256"]
    rows = evaluate(result["folder"], evaluation=["krr_ntk"], progress="none")
    assert rows[0]["protocol"] == "krr_ntk"
    assert load_coreset(result["folder"]).coreset.images.shape == (10, 8, 8, 1)
    for wrong in ({"method": "rfda"}, {"ipc": 0}, {"ipcc": 1}):
        with pytest.raises(UserError):
            distill(**wrong)


@pytest.mark.slow
def test_released_rfad_coreset_on_the_cifar10_test_set(command, tmp_path, tfds_dir, oracle_coreset):
    """First 200 test images: 60.97 % on all 10,000 is measured in the slow suite."""
    shutil.copy(oracle_coreset, tmp_path / "best.npz")
    done = command(
        "distill-evaluate", "coreset=best.npz", "coreset.format=rfad", "dataset=cifar10",
        f"dataset.data_dir={tfds_dir}", "evaluation=[krr_nngp,krr_ntk]", "evaluation.limit=200",
        "evaluation.baseline=false",
    )  # fmt: skip
    assert done.code == 0, done.err
    (file,) = (tmp_path / "outputs").rglob("evaluation.json")
    for row in json.loads(file.read_text())["evaluations"]:
        assert row["detail"]["ridge"] == pytest.approx(5e-3)
        expected = {"krr_nngp": 0.33765, "krr_ntk": 0.81782}[row["protocol"]]
        assert row["detail"]["mean_diagonal"] == pytest.approx(expected, rel=1e-4)
        assert row["accuracy"] == pytest.approx(0.605, abs=0.11)  # three standard errors of 200


def test_the_whole_training_split_as_the_ceiling(command, tmp_path):
    """method=full keeps every training image, chooses nothing, and is measured as a coreset is."""
    options = [
        "method=full", "evaluation=[dc]", "evaluation.networks=1", "evaluation.dc.width=8",
        "evaluation.epochs=2", "progress=none",
    ]  # fmt: skip
    done = command("distill", *options)
    assert done.code == 0, done.err
    folder = folder_of(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["ipc"] == 0 and result["coreset"]["images"] == [1438, 8, 8, 1]
    assert result["validation"]["loss"] is None
    (row,) = result["evaluations"]
    assert row["settings"]["epochs"] == 2 and "baseline_random" not in row
    assert row["accuracy"] > 0.3
    with np.load(folder / "coreset" / "coreset.npz") as file:
        hard = file["labels"].argmax(1)
    assert (np.diff(hard) >= 0).all()
    assert not (folder / "coreset" / "initial.npz").exists()
    assert "Real images of the training set" in (folder / "coreset" / "card.md").read_text()
    again = command("distill-evaluate", f"coreset={folder}", "evaluation=[dc]", *options[2:])
    assert again.code == 0, again.err
    other = json.loads(next(tmp_path.rglob("evaluation.json")).read_text())["evaluations"][0]
    assert other["accuracy"] == row["accuracy"]


def test_exact_regression_refuses_a_support_set_that_is_too_large(command, monkeypatch):
    from distill_cli.evaluation import base

    monkeypatch.setattr(base, "MOST_SUPPORT", 1000)
    done = command("distill", "method=full", "evaluation=[krr_nngp]", "progress=none")
    assert done.code == 2
    assert "exact regression on 1438 images (at most 1000)" in done.err


def test_a_large_set_is_shown_in_part(command, tmp_path, monkeypatch):
    from distill_cli.report import coreset_files

    done = command("distill", "method=full", "evaluation=[]", "progress=none")
    assert done.code == 0, done.err
    monkeypatch.setattr(coreset_files, "MOST_SHOWN", 1000)
    seen = coreset_files.read_coreset(folder_of(tmp_path))
    assert seen is not None and seen.total == 1438
    assert np.bincount(seen.coreset.hard_labels).tolist() == [50] * 10
    assert len(seen.distilled.pixels) == len(seen.coreset.labels) == 500


def test_weights_of_a_sampled_start_reach_the_measurement(command, tmp_path):
    """K_ts (K_ss + lam trace/n diag(mean(u)/u))^-1 y of the stored coreset, by NumPy in float64."""
    from distill_cli.core.coreset_io import load_coreset

    options = ["evaluation=[krr_nngp]", "evaluation.limit=100", "progress=none"]
    done = command(
        "distill", "method=random", "init=ridge_leverage", "init.weights=ridge", "ipc=3",
        "method.ridge=0.5", "architecture.width=8", *options,
    )  # fmt: skip
    assert done.code == 0, done.err
    folder = folder_of(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    (row,) = result["evaluations"]
    file = load_coreset(folder)
    u = np.array(result["initial_record"]["weights"])
    np.testing.assert_allclose(file.ridge_weights, u.mean() / u)
    again = command("distill-evaluate", f"coreset={folder}", *options)
    assert again.code == 0, again.err
    other = json.loads(next(tmp_path.rglob("evaluation.json")).read_text())["evaluations"][0]
    assert (other["accuracy"], other["detail"]) == (row["accuracy"], row["detail"])

    from distill_cli.cli.compose import compose
    from distill_cli.config import parse
    from distill_cli.kernels.exact import gram
    from distill_cli.tasks.problem import load_problem

    problem = load_problem(parse(compose("config", ["method=random", "architecture.width=8"])))
    images, labels = problem.test[0][:100], problem.test[1][:100]
    support = np.asarray(file.coreset.images)
    k_ts = np.asarray(gram(problem.architecture, images, support, get=("nngp",))["nngp"], float)
    k_ss = np.asarray(gram(problem.architecture, support, None, get=("nngp",))["nngp"], float)

    def half_mse(weights):
        ridge = 0.5 * np.trace(k_ss) / 30 * np.diag(weights)
        f = k_ts @ np.linalg.solve(k_ss + ridge, np.asarray(file.coreset.labels, float))
        return 0.5 * np.mean((f - (np.eye(10)[labels] - 0.1)) ** 2)

    assert row["detail"]["half_mse"] == pytest.approx(half_mse(u.mean() / u), rel=1e-5)
    assert row["detail"]["half_mse"] != pytest.approx(half_mse(np.ones(30)), rel=1e-4)


def test_ridge_weights_survive_every_export(command, tmp_path):
    from distill_cli.core.coreset_io import load_coreset

    done = command(
        "distill", "method=random", "init=kmeans_sensitivity", "init.weights=ridge", "ipc=2",
        "architecture.width=8", "evaluation=[]", "progress=none",
    )  # fmt: skip
    assert done.code == 0, done.err
    folder = folder_of(tmp_path)
    weights = load_coreset(folder).ridge_weights
    for format in ("npz", "torch", "safetensors", "images"):
        done = command("distill-export", f"coreset={folder}", f"format={format}", f"out={format}")
        assert done.code == 0, done.err
        place = tmp_path / format
        np.testing.assert_array_equal(load_coreset(place).ridge_weights, weights)


def test_scores_of_the_initial_images_are_kept_for_the_report(command, tmp_path):
    done = command("distill", *TINY, "init=krr_sensitivity", "steps=0", "evaluation=none")
    assert done.code == 0, done.err
    folder = folder_of(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    with np.load(folder / "coreset" / "initial_scores.npz") as data:
        assert data["images"].shape == (100, 8, 8, 1)
        assert 0 <= data["images"].min() < data["images"].max() <= 1
        taken = set(data["rows"][data["taken"]].tolist())
        assert taken <= set(result["initial_rows"])
        least, *_, most = result["initial_record"]["scores_quantiles"]
        assert (data["scores"].min(), data["scores"].max()) == (least, most)
    assert "Scores of real images" in (folder / "report.html").read_text()
