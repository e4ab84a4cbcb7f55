"""Classes in result files: what cannot have been measured, what reports and the terminal show."""

import copy
import json
from typing import Any

import numpy as np
import pytest

from distill_cli.evaluation.by_class import class_fields, confusion_counts
from distill_cli.report.card import write_card
from distill_cli.report.class_charts import classes_part
from distill_cli.report.class_results import class_results
from distill_cli.report.damage import damage
from distill_cli.report.html import page
from distill_cli.report.parse import parse_result
from distill_cli.report.results import read_result
from distill_cli.report.run_result import RunResult
from distill_cli.report.terminal import summary
from html_page import Page
from run_folders import change


def evaluation(
    sizes: list[int], recalls: list[float], networks: int = 1, names: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A row of result.json: of class c the first share recalls[c] is right, the rest is taken for
    the next class."""
    classes = len(sizes)
    labels = np.repeat(np.arange(classes), sizes)
    right = np.concatenate(
        [np.arange(n) < round(r * n) for n, r in zip(sizes, recalls, strict=True)]
    )
    guesses = np.where(right, labels, (labels + 1) % classes)
    fields = class_fields(confusion_counts([guesses] * networks, labels, classes), networks, names)
    return {
        "protocol": "krr_nngp", "split": "test", "images": len(labels), "n": networks, "std": None,
        "accuracy": float(np.mean(guesses == labels)), "seconds": 1.0, "nll": None, "ece": None,
        **fields,
    }  # fmt: skip


def measured_by_dc(*rows: dict[str, Any]) -> RunResult:
    return parse_result({"method": "dc", "evaluations": list(rows)})


def with_baseline(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    keys = ("accuracy", "std", "n", "balanced_accuracy", "per_class", "confusion")
    return row | {"baseline_random": {key: other[key] for key in keys}}


def put(row: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    changed = copy.deepcopy(row)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


SIZES, RECALLS = [10, 20, 0, 5], [0.5, 1.0, 0.0, 0.2]
ROW = with_baseline(evaluation(SIZES, RECALLS, 2), evaluation(SIZES, [0.2, 0.5, 0, 0.2], 2))
WIDE = evaluation([2] * 30, [0.5] * 30)


@pytest.mark.parametrize(
    ("row", "path", "value", "said"),
    [
        (ROW, ("balanced_accuracy",), 1.2, "balanced_accuracy of krr_nngp is 1.2, not in [0, 1]"),
        (ROW, ("balanced_accuracy",), 0.6, "balanced_accuracy of krr_nngp is 0.6, but its classes"),
        (ROW, ("accuracy",), 0.9, "accuracy of krr_nngp is 0.9, but its classes give 0.742857"),
        (ROW, ("per_class",), {}, "per_class of krr_nngp is no list of classes"),
        (ROW, ("per_class", 1, "accuracy"), 3, "per_class[1].accuracy of krr_nngp is 3, not in"),
        (ROW, ("per_class", 1, "accuracy"), None, "per_class[1].accuracy of krr_nngp is None"),
        (ROW, ("per_class", 1, "accuracy"), float("nan"), "per_class[1].accuracy of krr_nngp"),
        (ROW, ("per_class", 0, "images"), -1, "per_class[0].images of krr_nngp is -1"),
        (ROW, ("per_class", 0, "images"), 1.5, "per_class[0].images of krr_nngp is 1.5"),
        (ROW, ("per_class", 0, "images"), 11, "per_class of krr_nngp has 36 images, not 35"),
        (ROW, ("confusion", "matrix", 0, 0), 11, "confusion[0] of krr_nngp has 21 predictions"),
        (ROW, ("confusion", "matrix", 0, 0), -1, "confusion of krr_nngp is no confusion matrix"),
        (ROW, ("confusion", "matrix", 0), [1], "confusion of krr_nngp is no confusion matrix"),
        (ROW, ("confusion",), {"rows": 1}, "confusion of krr_nngp is no confusion matrix"),
        (ROW, ("per_class",), None, "confusion of krr_nngp is there without classes"),
        (ROW, ("baseline_random", "per_class", 3, "accuracy"), 7,
         "baseline_random.per_class[3].accuracy of krr_nngp is 7, not in [0, 1]"),
        (ROW, ("baseline_random", "confusion", "matrix"), [],
         "baseline_random.confusion of krr_nngp is no confusion matrix of 4 classes"),
        (WIDE, ("confusion", "largest", 3), [3, 3, 1], "confusion of krr_nngp is no confusion"),
        (WIDE, ("confusion", "largest", 3), [3, 30, 1], "confusion of krr_nngp is no confusion"),
        (WIDE, ("confusion", "largest", 3), [3, 4, 5], "confusion[3] of krr_nngp has 5 pred"),
    ],
)  # fmt: skip
def test_damage(row, path, value, said):
    assert damage(row) is None
    changed = put(row, path, value)
    assert (damage(changed) or "").startswith(said)
    inside = changed["baseline_random"] if path[0] == "baseline_random" else changed
    assert class_results(inside, changed["images"]) is None
    assert "Accuracy of each class" not in classes_part(
        parse_result({"evaluations": [changed]})
    ) or (path[0] == "baseline_random")


def test_rows_without_classes_are_no_damage():
    old = {k: v for k, v in ROW.items() if k not in ("balanced_accuracy", "per_class", "confusion")}
    old = old | {"baseline_random": {"accuracy": 0.2, "std": None, "n": 1}}
    assert damage(old) is None and class_results(old, old["images"]) is None
    raw = {"method": "rfad", "dataset": "digits", "evaluations": [old]}
    result = parse_result(raw)
    assert classes_part(result) == "" and not result.shows_balanced
    assert "balanced" not in summary(result) and "Classes" not in Page(page(result, [], None)).words
    mixed = parse_result(raw | {"evaluations": [old, with_baseline(ROW, ROW)]})
    assert "Accuracy of each class" in page(mixed, [], None)


@pytest.mark.parametrize(
    ("sizes", "recalls", "real", "shown"),
    [
        ([50, 50], [0.9, 0.5], [0.9, 0.2], False),  # equal classes: the same number
        ([100, 4], [1.0, 0.0], [1.0, 0.0], True),  # 96 % against 50 %
        ([100, 4], [0.8, 0.75], [0.8, 0.75], False),  # 79.8 % against 77.5 %, error 3.9 points
        ([100, 4], [0.8, 0.75], [1.0, 0.0], True),  # the random real images alone
        ([100, 4], [1.0, 1.0], [0.0, 0.0], False),  # no error at all
    ],
)
def test_where_balanced_accuracy_is_shown(sizes, recalls, real, shown):
    row = with_baseline(evaluation(sizes, recalls), evaluation(sizes, real))
    result = parse_result({"method": "rfad", "dataset": "own", "ipc": 1, "evaluations": [row]})
    assert result.shows_balanced is shown
    text, html = summary(result), page(result, [], None)
    assert ("balanced" in text.splitlines()[1]) is shown
    assert ("which have 4 to 100 images" in text) is shown
    assert ('<th scope="col">Balanced</th>' in html) is shown
    if shown:
        line = text.splitlines()[2]
        values = (row, row["baseline_random"])
        assert all(f"{100 * v['balanced_accuracy']:.2f} %" in line for v in values)


def test_card_says_balanced_accuracy_of_unequal_classes(run):
    row = with_baseline(evaluation([100, 4, 4], [1, 0, 0]), evaluation([100, 4, 4], [1, 0, 0]))
    change(run, evaluations=[row])
    card = write_card(run, read_result(run)).read_text(encoding="utf-8")
    assert "krr_nngp 33.33 %, random real 33.33 %" in card


def test_the_terminal_names_classes_without_test_images():
    names = ("ant", "bee", "cow", "dog")
    row = evaluation(SIZES, RECALLS, 1, names)
    text = summary(measured_by_dc(row, row | {"protocol": "dc"}))
    assert text.count("no test images of class cow: not measured") == 1
    many = evaluation([2, 0, 0, 0, 0, 0, 0, 0], [1] * 8)
    said = "no test images of class 1, 2, 3, 4, 5 and 2 more: not measured"
    assert said in summary(measured_by_dc(many))
    assert "no test images" not in summary(measured_by_dc(WIDE))


def test_page_of_few_classes():
    names = ("ant", "bee <b>", "cow", "dog")
    row = with_baseline(evaluation(SIZES, RECALLS, 2, names), evaluation(SIZES, RECALLS, 2, names))
    other = evaluation([3, 3, 3, 3], [1, 1, 1, 0], 1, names) | {"protocol": "dc"}
    text = page(measured_by_dc(row, other), [], None)
    seen = Page(text)
    assert "bee <b>" not in text and "bee <b>" in seen.text
    assert "50.0 % of 10" in seen.text and "20.0 % of 5" in seen.text
    assert "3 classes of 5 to 20 test images" in seen.text
    assert "1 class without test images" in seen.text
    assert "means over 2 networks" in seen.text
    assert len(seen.all("mask")) == 4  # two of each heat map
    masks = {attrs["id"] for attrs in seen.all("mask")}
    used = {str(r["mask"])[5:-1] for r in seen.all("rect") if r.get("mask")}
    assert len(masks) == 4 and masks == used
    summaries = [i for i, (tag, _) in enumerate(seen.tags) if tag == "summary"]
    assert len(summaries) >= 3  # two tables, and dc folded
    assert "bee <b>, 50.0 %" in seen.text or "bee <b> , 50.0 %" in seen.text  # ant taken for bee


def test_page_of_a_hundred_classes():
    recalls = [c / 100 for c in range(100)]
    row = evaluation([100] * 100, recalls, 1, tuple(f"class_{c:02d}" for c in range(100)))
    part = classes_part(measured_by_dc(row))
    seen = Page(part)
    bars = [attrs for attrs in seen.all("div") if attrs.get("class") == "bar"]
    assert len(bars) == 20
    assert "The 10 least accurate of 100 classes" in seen.text
    assert len(seen.all("text")) < 40  # every tenth name at two sides, two scales
    assert len(seen.all("tr")) == 2 + 10 + 100
    assert "class 00 class 01 100.0 %" in seen.text  # the most frequent confusion
    assert len(part) < 150_000


def test_heat_map_holds_the_shares():
    import base64
    import io
    import re

    from PIL import Image

    row = evaluation([4] * 13, [1.0, 0.5, 0.75] + [1.0] * 10)  # without numbers in the cells
    part = classes_part(measured_by_dc(row))
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        for data in re.findall(r"data:image/png;base64,([^\"]+)", part)
    ]
    cell = len(pictures[0]) // 13
    right, wrong = (picture[cell // 2 :: cell, cell // 2 :: cell] for picture in pictures)
    assert right.diagonal().tolist() == [255, 128, 191] + [255] * 10
    assert not right[~np.eye(13, dtype=bool)].any() and not wrong.diagonal().any()
    assert (wrong[1, 2], wrong[2, 3], int((wrong > 0).sum())) == (255, 128, 2)


def test_json_keeps_the_row():
    assert json.loads(json.dumps(ROW)) == ROW
