"""report.html: well-formed, self-contained, complete, and there even when the run is not."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.errors import UserError
from distill_cli.report.charts import (
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Series,
    line_chart,
    ticks,
)
from distill_cli.report.heat import diverging
from distill_cli.report.html import write_report
from html_page import Page


def page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def change(run: Path, **values: object) -> None:
    path = run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_nothing_comes_from_elsewhere(run: Path) -> None:
    found = page(run)
    text = (run / "report.html").read_text(encoding="utf-8")
    for tag, attrs in found.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "srcset", "poster", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith("data:image/png;base64,")
    assert not re.search(r"https?://|@import|url\(", text)


def test_headline_table_settings_and_command(run: Path) -> None:
    text = page(run).text
    for expected in (
        "RFAD on CIFAR-10, 2 images per class", "6 colour images of 6 \u00d7 5 pixels",
        "73.12 %", "40.00", "+33.12 points", "Kernel regression, exact NTK", "68.21 %",
        "1 h 02 min", "512 MiB", "5e0c81d2a4b39f77", "step limit", "method.networks", "a, b",
        'distill method=rfad dataset=cifar10 ipc=2 "evaluation=[krr_nngp,krr_ntk]"',
        "No published figure is recorded",
    ):  # fmt: skip
        assert expected in text, expected


def test_published_figure_stands_beside(new_run: Callable[..., Path]) -> None:
    run = new_run(ipc=10)
    found = page(run)
    assert "73.1 \u00b1 0.1 %" in found.text
    assert "arXiv 2210.12067" in found.text
    assert "75.6 \u00b1 0.2 %" in found.text  # KIP with learned labels, in the list of the cell
    assert len([a for a in found.all("tr") if a.get("class") == "same"]) == 1


def test_pictures_hold_the_pixels(run: Path) -> None:
    from distill_cli.report.coreset_files import read_coreset

    pictures = page(run).all("img")
    assert len(pictures) == 2 * 3  # initial and distilled, one per class
    assert all(p["alt"] for p in pictures)
    assert pictures[3]["alt"] == "Distilled images: ant, 2 images"
    assert "wasp & <fly>" in str(pictures[5]["alt"])
    files = read_coreset(run)
    assert files is not None
    data = base64.b64decode(str(pictures[4]["src"]).partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(data)))
    scale = 5  # 6 x 5 pixels enlarged to about 32
    np.testing.assert_array_equal(
        picture[: 6 * scale : scale, : 5 * scale : scale, :3], files.distilled.pixels[2]
    )


def test_curves_and_best_step(run: Path) -> None:
    found = page(run)
    lines = found.all("polyline")
    assert [line["class"] for line in lines] == ["line-a", "line-b", "line-b"]
    assert len(str(lines[0]["points"]).split()) == 11
    marks = [a for a in found.all("line") if a.get("class") == "mark"]
    middle = LEFT + (WIDTH - LEFT - RIGHT) * 200 / 400
    assert [float(str(a["x1"])) for a in marks] == [pytest.approx(middle, abs=0.1)] * 2
    assert "best: step 200" in found.text


@pytest.mark.parametrize(("learned", "expected"), [(True, 1), (False, 0)])
def test_label_map_only_for_learned_labels(
    new_run: Callable[..., Path], learned: bool, expected: int
) -> None:
    found = page(new_run(learned=learned))
    maps = [a for a in found.all("svg") if "Heat map" in str(a.get("aria-label"))]
    assert len(maps) == expected


def test_result_with_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    assert "no finished evaluation" in page(tmp_path).text


@pytest.mark.parametrize(
    "values",
    [
        {"evaluations": []},
        {"evaluations": None, "seconds": None, "config": None, "peak_memory_mb": None},
        {"evaluations": [{"protocol": "krr_nngp", "accuracy": float("nan")}]},
        {"evaluations": [{"accuracy": 0.5, "baseline_random": None}, None]},
        {"best_step": None, "ipc": None, "labels": None, "class_names": None, "device": {"a": 1}},
    ],
)
def test_gaps_in_the_result(run: Path, values: dict) -> None:
    change(run, **values)
    text = page(run).text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_missing_files(run: Path) -> None:
    for name in ("metrics.jsonl", "coreset/initial.npz", "coreset/preprocess.npz"):
        (run / name).unlink()
    found = page(run)
    assert len(found.all("img")) == 3
    assert not found.all("polyline")
    (run / "coreset" / "coreset.npz").unlink()
    assert not page(run).all("img")


def test_log_with_gaps(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 440, "loss": NaN, "valid_loss": Infinity}\n{"step": 480, "lo')
    assert "nan" not in " ".join(str(line["points"]) for line in page(run).all("polyline")).lower()


def test_text_of_a_result_cannot_become_markup(run: Path) -> None:
    change(run, command="<script>alert(1)</script>", dataset='"><b>', config={"<i>": "</table>"})
    found = page(run)
    assert not found.all("script")
    assert not found.all("i")
    assert "<script>alert(1)</script>" in found.text


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"result\.json: not found"):
        write_report(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        write_report(tmp_path)


@pytest.mark.parametrize("span", [(0, 1), (0.31, 0.68), (-5, 1234), (2.29, 2.31), (1e-6, 3e-6)])
def test_ticks_are_round_and_inside(span: tuple[float, float]) -> None:
    found = ticks(*span)
    assert 2 <= len(found) <= 6
    assert span[0] <= found[0] + 1e-9
    assert found[-1] <= span[1] + 1e-9
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert f"{steps[0]:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")


def points(chart: str) -> np.ndarray:
    text = re.findall(r'<polyline[^>]*points="([^"]*)"', chart)[0]
    return np.array([[float(v) for v in p.split(",")] for p in text.split()])


def test_a_line_is_drawn_to_scale() -> None:
    at = points(line_chart("t", [Series("s", [0, 1, 3], [0.0, 2.0, 1.0], "line-a")]))
    np.testing.assert_allclose(
        np.diff(at[:, 0]), (WIDTH - LEFT - RIGHT) * np.array([1, 2]) / 3, atol=0.2
    )
    rise = np.diff(at[:, 1])
    assert rise[0] < 0 < rise[1]
    assert rise[0] / rise[1] == pytest.approx(-2, rel=0.01)
    assert at[:, 1].min() > 0
    assert at[:, 1].max() < HEIGHT


def test_a_wide_range_becomes_logarithmic() -> None:
    chart = line_chart("t", [Series("s", [0, 1, 2], [100.0, 1.0, 0.01], "line-a")])
    rise = np.diff(points(chart)[:, 1])
    assert "logarithmic" in chart
    assert rise[0] == pytest.approx(rise[1], abs=0.2)


def test_many_points_are_averaged() -> None:
    y = np.random.default_rng(0).normal(size=5000)
    assert len(points(line_chart("t", [Series("s", list(range(5000)), list(y), "line-a")]))) <= 400


def test_one_point_and_none() -> None:
    assert "<circle" in line_chart("t", [Series("s", [5], [1.0], "line-a")], mark=5)
    assert line_chart("t", [Series("s", [], [], "line-a")]) == ""


def test_colours_of_the_label_map() -> None:
    blue, white, red = diverging(np.array([-2.0, 0.0, 2.0]), 2.0).astype(int)
    assert white.tolist() == [247, 247, 247]
    assert blue[2] > blue[0] + 100
    assert red[0] > red[2] + 100
