"""Card, citations, terminal summary, reading of result files, and write_all."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from distill_cli.config import group_choices
from distill_cli.report import write_all
from distill_cli.report.card import card, write_card
from distill_cli.report.citations import citations, cited, library, reference
from distill_cli.report.parse import parse_result
from distill_cli.report.results import read_metrics, read_result, write_text
from distill_cli.report.run_result import Measured, RunResult
from distill_cli.report.terminal import summary
from distill_cli.report.words import duration, flatten, percent, plural, points, run_title


def test_write_all(run: Path) -> None:
    written = write_all(run)
    names = {str(p.relative_to(run)) for p in written}
    assert names == {
        "coreset/load.py", "coreset/images.png", "coreset/card.md", "citations.bib", "report.html"
    }  # fmt: skip
    first = [p.read_bytes() for p in written]
    assert [p.read_bytes() for p in write_all(run)] == first
    assert not [p for p in run.rglob("*") if p.name.endswith(".tmp")]
    with Image.open(run / "coreset" / "images.png") as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"


def test_write_all_without_a_coreset(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"method": "rfad"}')
    assert [p.name for p in write_all(tmp_path)] == ["citations.bib", "report.html"]


def test_reports_need_no_jax_and_no_plot_library(run: Path) -> None:
    code = (
        "import sys; from distill_cli.report import write_all; write_all(sys.argv[1]);"
        "print([m for m in ('jax', 'tensorflow', 'matplotlib', 'flax') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_card_holds_the_facts(any_run: tuple[str, Path]) -> None:
    kind, run = any_run
    result = read_result(run)
    card = write_card(run, result).read_text(encoding="utf-8")
    sha = hashlib.sha256((run / "coreset" / "coreset.npz").read_bytes()).hexdigest()
    for expected in (sha, result.command, "0.1.0", "5e0c81d2a4b39f77", "73.12 %", "+33.12",
                     "python load.py", "torch.from_numpy", "np.load", "Loo et al.", "ant, bee",
                     "without a stated licence", "(pixel / pixel_max - mean) / std"):  # fmt: skip
        assert expected in card, expected
    assert ("W = U diag(s)^(-1/2) U^T" in card) == (kind in ("whitened", "per_image"))
    assert ("|x - mean(x)|" in card) == (kind == "per_image")
    assert ("divided by 16," in card) == (kind == "grey")
    assert ("lie outside the range of pixels" in card) == (kind != "per_image")


def test_card_tells_learned_labels_from_the_labels(new_run: Callable[..., Path]) -> None:
    run = new_run(learned=True)
    assert "regression targets, learned" in write_card(run, RunResult()).read_text(encoding="utf-8")


def test_card_of_next_to_nothing(tmp_path: Path) -> None:
    card = write_card(tmp_path, RunResult()).read_text(encoding="utf-8")
    assert "Not evaluated." in card
    assert "None" not in card
    assert "nan" not in card


def test_tables_of_the_card_have_equal_columns(new_run: Callable[..., Path]) -> None:
    run = new_run(ipc=10)
    result = replace(read_result(run), stop_reason="a | b\nc")
    card = write_card(run, result).read_text(encoding="utf-8")
    rows = [line.replace("\\|", "") for line in card.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {3, 8}
    assert "73.1 \u00b1 0.1 %" in card


@pytest.mark.parametrize(
    ("result", "present", "absent"),
    [
        ({"method": "rfad", "dataset": "cifar10"},
         {"loo2022rfad", "novak2020neural", "zhuang2020adabelief", "krizhevsky2009cifar",
          "jax2018github"}, {"nguyen2021kip"}),
        ({"method": "rfad", "dataset": "mnist", "evaluations": [{"protocol": "krr_ntk"}]},
         {"nguyen2021kip", "lecun1998mnist"}, set()),
        ({"method": "dm", "dataset": "fashion-mnist"}, {"xiao2017fashion"},
         {"zhuang2020adabelief"}),
        ({"method": "kip", "dataset": "svhn_cropped"}, {"nguyen2021kip", "netzer2011svhn"},
         {"loo2022rfad", "zhuang2020adabelief"}),
        ({"method": "frepo", "dataset": "celeba"}, {"zhou2022frepo", "liu2015celeba"},
         {"novak2020neural"}),
        ({"dataset": "digits"}, {"alpaydin1998digits", "pedregosa2011sklearn"}, set()),
        ({}, {"jax2018github"}, set()),
    ],
)  # fmt: skip
def test_citations_follow_the_choices(result: dict, present: set, absent: set) -> None:
    found = parse_result(result)
    keys = {key for key, _ in cited(found)}
    assert present <= keys
    assert not absent & keys
    text = citations(found)
    for key in keys:
        assert text.count(f"{{{key},") == 1


OWN_FILES = ("folder", "npz")  # their images are the user's


@pytest.mark.parametrize("name", sorted(set(group_choices("dataset")) - set(OWN_FILES)))
def test_every_data_set_has_title_licence_and_citation(name: str) -> None:
    result = RunResult(method="rfad", dataset=name)
    assert run_title(result) != f"RFAD on {name}"
    assert "the data set" in [reason for _, reason in cited(result)]
    licence = card(result, None).partition("## Licence")[2].partition("## Limits")[0]
    says = ("published under", "without a stated licence", "offered for", "passed on under")
    assert any(word in licence for word in says)


@pytest.mark.parametrize("name", sorted(set(group_choices("method")) - {"random", "full"}))
def test_every_method_has_title_and_citation(name: str) -> None:
    result = RunResult(method=name, dataset="mnist")
    assert run_title(result) != f"{name} on MNIST"
    assert any("method" in reason or "kernel" in reason for _, reason in cited(result))


def test_every_entry_is_whole() -> None:
    for key, entry in library().items():
        assert entry.count("{") == entry.count("}")
        assert entry.endswith("}")
        assert all(f"{field} " in entry for field in ("author", "title", "year"))
        assert reference(key).count("\u201c") == 1
        assert "{" not in reference(key)
    assert reference("loo2022rfad").startswith("Loo et al., \u201cEfficient Dataset Distillation")
    assert reference("zhao2021dsa").startswith("Zhao and Bilen")
    assert reference("krizhevsky2009cifar").startswith("Krizhevsky, ")


def test_summary(new_run: Callable[..., Path]) -> None:
    text = summary(read_result(new_run(ipc=10)))
    lines = text.splitlines()
    assert lines[0] == "RFAD on CIFAR-10, 10 images per class"
    assert lines[1].split() == ["protocol", "accuracy", "random", "real", "gain", "published",
                                "nll", "ece", "time"]  # fmt: skip
    nngp = next(line for line in lines if line.strip().startswith("krr_nngp"))
    for cell in (
        "73.12 %",
        "40.00 \u00b1 1.00 %",
        "+33.12",
        "73.1 \u00b1 0.1 %",
        "1.1",
        "0.02",
        "4 s",
    ):
        assert cell in nngp
    ntk = next(line for line in lines if line.strip().startswith("krr_ntk"))
    assert "68.21 %" in ntk
    assert len(ntk) == len(nngp) == len(lines[1])
    assert "best step 200 of 400" in text
    assert "1 h 02 min" in text
    assert "Table 1" in text


def test_summary_of_next_to_nothing() -> None:
    bare = ["unknown method on unknown data", "  not evaluated"]
    assert summary(RunResult()).splitlines() == bare
    row = {"protocol": "krr_nngp", "accuracy": float("nan")}
    gone = summary(parse_result({"evaluations": [row]}))
    assert "nan" not in gone
    assert "krr_nngp" in gone


def test_metrics_merge_by_step_and_survive_a_kill(tmp_path: Path) -> None:
    lines = ['{"step": 40, "loss": 2.0}', '{"step": 0, "loss": 3}', "[1]", '{"loss": 1}', ""]
    lines += ['{"step": 40, "loss": 1.5, "valid_loss": NaN, "x": "y"}', '{"step": 80, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_metrics(tmp_path) == [{"step": 0.0, "loss": 3.0}, {"step": 40.0, "loss": 1.5}]
    assert read_metrics(tmp_path / "absent") == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_text(tmp_path / "a.txt", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_formats() -> None:
    assert percent(0.7312) == "73.12 %"
    assert percent(0.5, 0.012, 1) == "50.0 \u00b1 1.2 %"
    assert percent(float("nan")) == percent(None) == percent("0.5") == percent(True) == "\u2013"
    assert points(0.3312) == "+33.12"
    assert points(-0.01) == "\u22121.00"
    times = (8.4, 61.2, 725, 3599.9, 11220)
    assert [duration(s) for s in times] == [
        "8.4 s",
        "61.2 s",
        "12 min 5 s",
        "1 h 00 min",
        "3 h 07 min",
    ]
    assert plural(1, "image") == "1 image"
    assert plural(1200, "class") == "1,200 classes"
    assert flatten({"a": {"b": 1, "c": None}, "d": [1, 2]}) == [
        ("a.b", "1"), ("a.c", "\u2013"), ("d", "1, 2")
    ]  # fmt: skip
    assert Measured(0.5, images=2500).sampling_error == pytest.approx(0.01)
    assert Measured(0.5).sampling_error is None


def row(accuracy: float, before: float, images: int, **more: object) -> dict[str, object]:
    return {"protocol": "krr_nngp", "accuracy": accuracy, "images": images, "n": 1,
            "baseline_random": {"accuracy": before, "n": 1}, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("evaluation", "clear"),
    [
        (row(0.3333, 0.1667, 12), False),  # two of twelve images
        (row(0.3333, 0.1667, 1200), True),
        (row(0.50, 0.48, 10_000), True),  # 2 points of 0.7 points' error
        (row(0.50, 0.49, 10_000), False),
        (row(0.40, 0.50, 10), False),
        (row(0.50, 0.48, 10_000, std=0.03, n=3), False),  # networks differ by 3 points
    ],
)
def test_a_gain_within_its_error_is_not_shown_as_one(evaluation, clear, tmp_path) -> None:
    result = {"method": "rfad", "dataset": "own", "ipc": 1, "evaluations": [evaluation]}
    text = summary(parse_result(result))
    change = 100 * (evaluation["accuracy"] - evaluation["baseline_random"]["accuracy"])
    shown = f"{change:+.2f}".replace("-", "−")
    assert (f"({shown})" in text) == (not clear)
    assert shown in text
    assert ("less than twice its standard error" in text) == (not clear)
    (tmp_path / "result.json").write_text(json.dumps(result))
    write_all(tmp_path)
    page = (tmp_path / "report.html").read_text().lower()
    assert ("less than twice its standard error" in page) == (not clear)


def test_validation_on_training_images_is_said() -> None:
    result = {"method": "rfad", "dataset": "own", "ipc": 1, "evaluations": [row(0.5, 0.4, 100)],
              "best_step": 40, "steps": 80, "seconds": {"total": 3.0}}  # fmt: skip
    text = lambda more: summary(parse_result(result | more))  # noqa: E731
    said = "validation images took part in distilling"
    assert said in text({"validation": {"disjoint": False}})
    assert said not in text({"validation": {"disjoint": True}})
    assert said not in text({"validation": {"disjoint": False}, "steps": 0})
    assert said not in text({})  # results from before it was recorded
