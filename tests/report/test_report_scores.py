"""Pictures of the real images with the highest and lowest scores: what is kept, what is shown."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from distill_cli.core.files import write_npz
from distill_cli.report.html import write_report
from distill_cli.report.run_result import RunResult
from distill_cli.report.scores import scores_part
from distill_cli.tasks.measure import SHOWN, extremes
from html_page import Page

NAMES = ("ant", "bee", "wasp")
rng = np.random.default_rng(0)


def problem(n: int = 60):
    """Every second image takes part; class 2 has three of them."""
    labels = np.where(np.arange(n) < 6, 2, np.arange(n) % 4 // 2).astype(np.int32)
    images = rng.integers(0, 17, size=(n, 4, 3, 1)).astype(np.uint8)
    data = SimpleNamespace(
        train=SimpleNamespace(images=images, labels=labels), classes=3, pixel_max=16.0
    )
    return SimpleNamespace(dataset=data, train_rows=np.arange(0, n, 2))


def test_the_extremes_of_each_class_against_sorting() -> None:
    one = problem()
    scores = rng.permutation(30).astype(float)
    scores[10], scores[11] = -1, np.nan  # took no part
    taken = np.array([0, 40])
    found = extremes(one, scores, taken)  # type: ignore[arg-type]
    labels = one.dataset.train.labels
    for label in range(3):
        known = sorted(
            (s, row) for s, row in zip(scores, one.train_rows, strict=True)
            if labels[row] == label and s >= 0
        )  # fmt: skip
        count = min(SHOWN, len(known) // 2)
        mine = found["labels"] == label
        for high, wanted in ((True, known[::-1][:count]), (False, known[:count])):
            rows = mine & (found["highest"] == high)
            assert list(found["scores"][rows]) == [s for s, _ in wanted]
            assert list(found["rows"][rows]) == [row for _, row in wanted]
    assert (found["labels"] == 2).sum() == 2  # three images: one at either end
    np.testing.assert_array_equal(
        found["images"], one.dataset.train.images[found["rows"]] / np.float32(16)
    )
    np.testing.assert_array_equal(found["taken"], np.isin(found["rows"], taken))


def scored_run(run: Path) -> Path:
    images = rng.integers(0, 256, size=(6, 4, 4, 1)) / 255
    write_npz(run / "coreset" / "initial_scores.npz", {
        "images": images.astype(np.float32), "scores": [9.5, 0.25] * 3, "rows": range(6),
        "labels": [0, 0, 1, 1, 2, 2], "highest": [True, False] * 3,
        "taken": [True, False, False, False, False, False],
    })  # fmt: skip
    return run


def test_the_report_shows_them_with_their_scores(run: Path) -> None:
    plain = Page(write_report(run).read_text("utf-8"))
    assert "Scores of real images" not in plain.text
    found = Page(write_report(scored_run(run)).read_text("utf-8"))
    assert "Scores of real images" in found.text
    assert found.text.count("9.5") >= 3 and found.text.count("0.25") >= 3
    assert len([a for a in found.all("figure") if a.get("class") == "taken"]) == 1
    alts = [str(a["alt"]) for a in found.all("img") if "score" in str(a["alt"])]
    assert alts[:2] == ["ant, highest score 1", "ant, lowest score 1"]
    (first, *_) = [a for a in found.all("img") if "score" in str(a["alt"])]
    picture = Image.open(io.BytesIO(base64.b64decode(str(first["src"]).partition(",")[2])))
    with np.load(run / "coreset" / "initial_scores.npz") as data:
        np.testing.assert_array_equal(np.asarray(picture), np.rint(255 * data["images"][0, ..., 0]))


@pytest.mark.parametrize("damage", ["cut", "unequal", "empty"])
def test_a_damaged_file_is_left_out(run: Path, damage: str) -> None:
    file = scored_run(run) / "coreset" / "initial_scores.npz"
    with np.load(file) as data:
        arrays = dict(data)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "unequal":
        write_npz(file, arrays | {"scores": arrays["scores"][:2]})
    else:
        write_npz(file, {key: value[:0] for key, value in arrays.items()})
    assert scores_part(run, RunResult(), NAMES) == ""
