"""Classes in the results of whole runs: counts, sums, older files, a class without test images."""

import copy
import json

import jax.numpy as jnp
import numpy as np

from distill_cli.report.damage import damage
from tiny import TINY

FIELDS = ("balanced_accuracy", "per_class", "confusion")
SMALL = (
    "evaluation=[krr_nngp,dc]", "evaluation.dc.networks=1", "evaluation.dc.epochs=2",
    "evaluation.dc.width=8",
)  # fmt: skip


def check(part: dict, images: int, exact: bool) -> None:
    """Counts add up, and accuracies weighted by them give the accuracy."""
    rows, matrix = part["per_class"], np.array(part["confusion"]["matrix"])
    counts = np.array([row["images"] for row in rows])
    assert counts.sum() == images
    np.testing.assert_array_equal(matrix.sum(1), counts * part["n"])
    accuracies = [row["accuracy"] for row in rows if row["images"]]
    assert part["balanced_accuracy"] == float(np.mean(accuracies))
    right = sum(round(r["accuracy"] * r["images"] * part["n"]) for r in rows if r["images"])
    assert right == np.trace(matrix)
    if exact:
        assert part["accuracy"] == right / (images * part["n"])
    else:  # exact regression: a mean of zeros and ones in float32
        hits = jnp.asarray(np.arange(images) < right, jnp.float32)
        assert part["accuracy"] == float(jnp.mean(hits))


def test_a_run_says_what_its_accuracy_is_made_of(command, tmp_path):
    words = (*TINY, *SMALL)
    done = command("distill", *words)
    assert done.code == 0, done.err
    (file,) = tmp_path.rglob("result.json")
    result = json.loads(file.read_text())
    names = result["class_names"]
    for row in result["evaluations"]:
        for part in (row, row["baseline_random"]):
            check(part, row["images"], exact=row["protocol"] == "dc")
            assert [one["class"] for one in part["per_class"]] == names
        assert damage(row) is None
    assert "balanced" not in done.out  # digits has about as many test images of each class
    assert "Accuracy of each class" in (file.parent / "report.html").read_text()

    # a file of before these fields stays as it is
    for row in result["evaluations"]:
        for part in (row, row["baseline_random"]):
            for key in FIELDS:
                del part[key]
    file.write_text(json.dumps(result))
    (file.parent / "report.html").unlink()
    done = command("distill", *words)
    assert done.code == 0 and "finished before" in done.out and "WARNING" not in done.err
    assert json.loads(file.read_text()) == result
    assert "Accuracy of each class" not in (file.parent / "report.html").read_text()


def test_edited_classes_are_measured_again(command, tmp_path):
    words = (*TINY, "evaluation=[krr_nngp]", "evaluation.limit=60")
    assert command("distill", *words).code == 0
    (file,) = tmp_path.rglob("result.json")
    result = json.loads(file.read_text())
    before = {key: copy.deepcopy(result["evaluations"][0][key]) for key in FIELDS}
    result["evaluations"][0]["confusion"]["matrix"][4][4] += 1
    file.write_text(json.dumps(result))
    done = command("distill", *words)
    assert done.code == 0 and "confusion[4] of krr_nngp" in done.err
    assert {k: json.loads(file.read_text())["evaluations"][0][k] for k in FIELDS} == before


def test_a_class_without_test_images_and_unequal_ones(command, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 20, 20])
    images = rng.integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    images[labels == 0, :4] = 255
    tested = np.repeat([0, 1], [80, 4])
    test_images = rng.integers(0, 256, (84, 8, 8, 1), dtype=np.uint8)
    test_images[:, :4] = 255  # all look like class 0
    np.savez(
        tmp_path / "own.npz", x_train=images, y_train=labels, x_test=test_images, y_test=tested
    )
    data = ("dataset=npz", f"dataset.path={tmp_path / 'own.npz'}", "dataset.name=own")
    done = command(
        "distill", *data, "ipc=2", "method=random", "hardware=cpu", "architecture.depth=1",
        "evaluation=[krr_nngp]", "progress=plain", "out=runs",
    )  # fmt: skip
    assert done.code == 0, done.err
    (file,) = tmp_path.rglob("result.json")
    (row,) = json.loads(file.read_text())["evaluations"]
    check(row, 84, exact=False)
    assert [one["images"] for one in row["per_class"]] == [80, 4, 0]
    assert row["per_class"][2]["accuracy"] is None
    recalls = [one["accuracy"] for one in row["per_class"][:2]]
    assert row["balanced_accuracy"] == sum(recalls) / 2
    assert recalls[0] > 0.8 and recalls[1] < 0.5
    assert f"{100 * row['balanced_accuracy']:.2f} %" in done.out
    assert "balanced: mean over the classes, which have 4 to 80 images" in done.out

    # distill-evaluate gives the same, with its own file
    done = command(
        "distill-evaluate", *data, f"coreset={file.parent}", "architecture.depth=1",
        "hardware=cpu", "evaluation=[krr_nngp]", "out=runs",
    )  # fmt: skip
    assert done.code == 0, done.err
    (other,) = tmp_path.rglob("evaluation.json")
    (again,) = json.loads(other.read_text())["evaluations"]
    assert {key: again[key] for key in FIELDS} == {key: row[key] for key in FIELDS}
    assert "balanced" in done.out
