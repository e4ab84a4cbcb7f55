"""Variants and their statistics, against NumPy."""

import json
from pathlib import Path

import numpy as np
import pytest

from distill_cli.report.collect import collect
from distill_cli.report.compare import compare
from run_folders import ACCURACIES, change, make_runs


def comparison(folder: Path):
    return compare(collect([folder]).runs)


def test_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    site = comparison(make_runs(tmp_path))
    ((cell, summaries),) = site.cells.items()
    assert (cell.dataset, cell.ipc, cell.protocol) == ("cifar10", 2, "krr_ntk")
    assert [site.names[s.variant] for s in summaries] == ["RFAD", "KIP"]  # the best first
    for s, method in zip(summaries, ("rfad", "kip"), strict=True):
        values = [a for (m, _), a in ACCURACIES.items() if m == method]
        assert s.n == len(values)
        assert s.mean == pytest.approx(np.mean(values, dtype=np.float64), rel=1e-14)
        assert s.std == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert summaries[0].random == pytest.approx(0.41)


def test_variants_are_named_by_what_differs(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    change(runs / "rfad" / "seed1", init="herding")
    change(runs / "rfad" / "seed2", labels="learned")
    site = comparison(runs)
    assert set(site.names) == {
        "KIP, fixed labels, init random", "RFAD, fixed labels, init herding",
        "RFAD, fixed labels, init random", "RFAD, learned labels, init random",
    }  # fmt: skip
    assert site.title(0) == (
        "KIP on CIFAR-10, 2 images per class, fixed labels, init random, seed 0"
    )


def test_settings_tell_apart_what_the_names_do_not(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    result = json.loads((runs / "rfad" / "seed1" / "result.json").read_text())
    wider = result["config"] | {"architecture": {"width": 64}}
    change(runs / "rfad" / "seed1", config=wider)
    site = comparison(runs)
    assert sorted(site.names) == [
        "KIP", "RFAD (architecture.width 64)", "RFAD (architecture.width \u2013)"
    ]  # fmt: skip
    assert [site.each[i] for i in (2, 4)] == [site.each[2]] * 2  # seeds 0 and 2 stay together


def test_what_cannot_change_the_coreset_makes_no_variant(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    result = json.loads((runs / "rfad" / "seed1" / "result.json").read_text())
    change(runs / "rfad" / "seed1", config=result["config"] | {"out": "elsewhere", "progress": "x"})
    assert sorted(comparison(runs).names) == ["KIP", "RFAD"]


def test_the_evaluation_of_a_file_is_a_variant_of_its_own(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    run = runs / "rfad" / "seed0"
    value = json.loads((run / "result.json").read_text())
    coreset = {"path": "/elsewhere/coreset.pt", "sha256": "0"}
    place = runs / "evaluate"
    place.mkdir()
    value = {k: v for k, v in value.items() if k != "digest"} | {"coreset": coreset}
    (place / "evaluation.json").write_text(json.dumps(value))
    assert sorted(comparison(runs).names) == ["KIP", "RFAD", "RFAD, file coreset.pt"]
    (runs / "again").mkdir()  # the same file, measured elsewhere: no second seed
    (runs / "again" / "evaluation.json").write_text(json.dumps(value))
    site = comparison(runs)
    (summaries,) = site.cells.values()
    assert [s.n for s in summaries if "file" in site.names[s.variant]] == [1]


def test_corrupted_training_images_are_a_data_set_of_their_own(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    result = json.loads((runs / "rfad" / "seed1" / "result.json").read_text())
    for seed, imbalance in ((1, 10), (2, 100)):
        data = {"name": "cifar10", "corrupt": "long_tail", "corrupt_imbalance": imbalance}
        data["data_dir"] = f"/of/seed{seed}"  # where data lie decides nothing
        config = result["config"] | {"dataset": data}
        change(runs / "rfad" / f"seed{seed}", config=config)
    site = comparison(runs)
    titles = sorted(cell.title() for cell in site.cells)
    assert titles[0] == "CIFAR-10 (long tail), 2 images per class, krr_ntk"
    assert sorted(name for name in site.names if "(" in name) == [
        "RFAD (dataset.corrupt_imbalance 10)", "RFAD (dataset.corrupt_imbalance 100)"
    ]  # fmt: skip
    assert all(m.known is None for m in site.found if "long_tail" in m.cell.dataset)
