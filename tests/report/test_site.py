"""A page over many runs, without a browser: well-formed, self-contained, complete; its figures."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.core.files import write_npz
from distill_cli.report import figures
from distill_cli.report.charts import Chart, Series, draw, reliability_chart, scales
from distill_cli.report.collect import collect
from distill_cli.report.compare import compare
from distill_cli.report.palette import COLOURS
from distill_cli.report.parse import parse_evaluation
from distill_cli.report.results import read_result
from distill_cli.report.rowcharts import Dot, DotChart, dots
from distill_cli.report.sheets import sheets, symmetric
from distill_cli.report.site import write_site
from html_page import Page
from run_folders import BINS, change, make_runs


def site_page(runs: Path, out: Path) -> tuple[str, Page]:
    text = write_site(collect([runs]), out, "Runs & <more>", 5, False).page.read_text("utf-8")
    script = re.compile(r"<script>.*?</script>", re.DOTALL)
    return text, Page(script.sub("", text))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return make_runs(tmp_path / "outputs")


def test_the_page_is_well_formed_and_loads_nothing(runs: Path, tmp_path: Path) -> None:
    text, found = site_page(runs, tmp_path / "site")
    for tag, attrs in found.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert "src" not in attrs or str(attrs["src"]).startswith("data:image/png;base64,")
        assert not any(name.startswith("on") for name in attrs)
        if tag == "a":
            assert not re.match(r"[a-z]+:|//|/", str(attrs["href"]))
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text
    ids = [str(attrs["id"]) for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert "Runs & <more>" in found.text


def test_every_run_has_a_row_with_its_figures(runs: Path, tmp_path: Path) -> None:
    _, found = site_page(runs, tmp_path / "site")
    rows = [attrs for attrs in found.all("tr") if "data-runs" in attrs]
    assert [row["data-runs"] for row in rows] == list("01234")
    for expected in ("70.00 %", "74.00 %", "60.00 %", "+33.00", "5 runs", "2 methods",
                     "73.00 \u00b1 2.65 %",
                     "62.50 \u00b1 3.54 %", "1 h 02 min", "512 MiB"):  # fmt: skip
        assert expected in found.text, expected
    accuracies = [a["data-v"] for a in found.all("td") if a.get("data-label") == "Accuracy"]
    assert [float(str(v)) for v in accuracies] == [0.60, 0.65, 0.70, 0.74, 0.75]
    copies = [attrs["data-copy"] for attrs in found.all("button") if "data-copy" in attrs]
    assert copies.count("distill method=kip seed=1 'a=[b,c]'") == 2  # table and gallery


def test_links_reach_the_runs_from_the_page(runs: Path, tmp_path: Path) -> None:
    (runs / "kip" / "seed0" / "report.html").write_text("own report")
    _, found = site_page(runs, tmp_path / "deep" / "site")
    targets = {str(attrs["href"]) for attrs in found.all("a")}
    assert "../../outputs/kip/seed0/report.html" in targets
    assert not any("kip/seed1/report.html" in target for target in targets)  # it has none
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (tmp_path / "deep" / "site" / path).exists()
        assert not anchor or any(attrs.get("id") == anchor for _, attrs in found.tags)


def test_what_was_passed_over_and_versions_are_shown(runs: Path, tmp_path: Path) -> None:
    (runs / "kip" / "seed0" / "result.json").write_text("{")
    change(runs / "kip" / "seed1", version="0.0.7")
    _, found = site_page(runs, tmp_path / "site")
    assert "1 folder skipped" in found.text
    assert "broken: result.json is not a JSON object" in found.text
    assert "made by version 0.0.7" in found.text


def test_text_of_results_cannot_become_markup(runs: Path, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    change(runs / "kip" / "seed0", method=bad, init=bad, labels='"><b x="', device=bad, command=bad,
           dataset=bad)  # fmt: skip
    text, _ = site_page(runs, tmp_path / "site")
    assert text.count("<script>") == 1
    assert '"><b x' not in text


def test_a_run_with_next_to_nothing(runs: Path, tmp_path: Path) -> None:
    run = runs / "kip" / "seed0"
    value = json.loads((run / "result.json").read_text())
    kept = {k: value[k] for k in ("schema", "version", "command", "dataset", "coreset")}
    (run / "result.json").write_text(json.dumps(kept | {"evaluations": []}))
    (run / "metrics.jsonl").unlink()
    _, found = site_page(runs, tmp_path / "site")
    assert "5 runs" in found.text
    assert "nan" not in found.text.lower().split()


def test_reliability_diagram_skips_empty_bins() -> None:
    row = {"detail": {"calibration": {"bins": BINS}}}
    x, y = parse_evaluation(row).reliability
    assert (x, y) == ([0.3, 0.5, 0.7, 0.9], [0.2, 0.6, 0.8, 1.0])
    found = Page(draw(reliability_chart("t", [Series("a", x, y, "c0")])))
    across, up = scales(reliability_chart("t", [Series("a", x, y, "c0")]))
    assert across.place(0.25) == up.place(0.25) == 0.25
    assert len(found.all("circle")) == 4
    for gap in ({}, {"detail": {"calibration": {"bins": "x"}}}):
        assert parse_evaluation(gap).reliability == ([], [])


def test_marks_lie_where_their_values_are() -> None:
    row = Dot("a", "c0", (0, 1), (0.5, 0.7), 0.6, 0.1414, 0.4, 0.8)
    chart = DotChart("t", [row])
    low, high = chart.range()
    found = Page(dots(chart))
    place = {
        str(a["class"]): float(str(a["style"]).split("left:")[1].split("%")[0])
        for a in found.all("i") if "style" in a
    }  # fmt: skip
    for kind, value in (("dot", 0.6), ("ring", 0.4), ("diamond", 0.8), ("whisker", 0.6 - 0.1414)):
        assert place[kind] == pytest.approx(100 * (value - low) / (high - low), abs=0.01)
    assert 0 <= low < 0.4 and 0.8 < high <= 1


def test_sheets_show_before_after_and_difference(runs: Path) -> None:
    run = runs / "rfad" / "seed0"
    made = sheets(run, read_result(run), images=5)
    assert [s.title for s in made] == [
        "Before: initial images", "After, as the network sees it", "After, de-whitened to pixels",
        "Difference",
    ]  # fmt: skip
    assert all(s.picture.dtype == np.uint8 and s.picture.shape[-1] == 4 for s in made)
    assert "One row for each class: ant, bee, wasp" in made[0].note
    one = sheets(run, read_result(run), images=1)
    assert one[0].picture.shape[1] < made[0].picture.shape[1]


def test_no_change_is_no_difference(runs: Path) -> None:
    run = runs / "rfad" / "seed0"
    with np.load(run / "coreset" / "coreset.npz") as data:
        write_npz(run / "coreset" / "initial.npz", dict(data))
    made = sheets(run, read_result(run), images=5)
    opaque = made[3].picture[made[3].picture[..., 3] == 255]
    assert (opaque[:, :3] == 247).all()  # the middle of the map


def test_symmetric_images_keep_zero_in_the_middle() -> None:
    images = np.array([[[[-2.0], [0.0], [1.0]]], [[[0.0], [0.0], [0.0]]]])
    np.testing.assert_array_equal(symmetric(images)[..., 0], [[[0, 128, 191]], [[128, 128, 128]]])


def test_figures_are_png_and_svg_and_the_same_again(runs: Path, tmp_path: Path) -> None:
    names = {}
    for place in ("a", "b"):
        made = write_site(collect([runs]), tmp_path / place, "t", 2, True)
        names[place] = sorted(made.figures)
        kinds = {name.rpartition(".")[0] for name in made.figures}
        assert {"accuracy_cifar10_ipc2_krr_ntk", "curves_cifar10_ipc2_valid_loss", "time",
                "calibration_cifar10_ipc2_krr_ntk", "memory", "accuracy_time_cifar10_ipc2",
                "gallery_rfad_cifar10_ipc2_rfad0"} <= kinds  # fmt: skip
    assert names["a"] == names["b"]
    for name in names["a"]:
        data = (tmp_path / "a" / "figures" / name).read_bytes()
        assert data == (tmp_path / "b" / "figures" / name).read_bytes(), name
        if name.endswith(".png"):
            with Image.open(io.BytesIO(data)) as image:
                assert image.width > 200
        else:
            assert ElementTree.fromstring(data).tag.endswith("svg")


def test_a_figure_has_the_colour_of_its_class() -> None:
    assert figures.colour("run c3 dashed") == {"color": COLOURS[3][0], "linestyle": "--"}


def test_colours_are_told_apart_from_both_papers() -> None:
    def luminance(colour: str) -> float:
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for light, dark in COLOURS:  # WCAG's contrast of graphics
        assert 1.05 / (luminance(light) + 0.05) >= 3
        assert (luminance(dark) + 0.05) / (luminance("#181d24") + 0.05) >= 3


def test_variants_of_one_name_share_a_colour(runs: Path) -> None:
    change(runs / "rfad" / "seed2", dataset="mnist")
    site = compare(collect([runs]).runs)
    same = [site.colours[v] for v, name in enumerate(site.names) if name == "RFAD"]
    assert len(same) == 2 and len(set(same)) == 1


def test_empty_chart_is_empty() -> None:
    assert draw(Chart("t", [Series("a", [], [], "c0")])) == ""


def test_a_short_logarithmic_axis_has_ticks() -> None:
    chart = Chart("t", [Series("a", [11.0, 14.0], [0.5, 0.6], "c0", 0, True)], x_log=True)
    ticks = scales(chart)[0].ticks(4)
    assert len(ticks) > 1
    assert all(10 < tick < 16 for tick in ticks)
