"""distill-evaluate: rows that stay, foreign files, and preprocessing that does not fit."""

import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from distill_cli.core.coreset_io import load_coreset, save_coreset
from distill_cli.core.files import write_json
from distill_cli.core.types import Coreset, Metric
from distill_cli.data.config import DatasetConfig, PreprocessConfig
from distill_cli.data.preprocess import fit
from distill_cli.data.sources import load_dataset
from distill_cli.tasks.export import Config, Source
from distill_cli.tasks.export import run as export
from distill_cli.tasks.measure import row_of, settings_of

SMALL = ("architecture.width=8", "architecture.depth=2", "evaluation.baseline=false")
NNGP = ("evaluation=[krr_nngp]", "evaluation.limit=60", *SMALL)


@pytest.fixture
def folder(tmp_path) -> Path:
    """What a run on digits leaves behind: the first image of each class, standardised."""
    data = load_dataset(DatasetConfig(cache=False))
    rows = [int(np.flatnonzero(data.train.labels == label)[0]) for label in range(10)]
    settings = PreprocessConfig()
    fitted = fit(settings, data.train.images, data.pixel_max)
    images = np.asarray(fitted.transform(data.train.images[rows]))
    place = tmp_path / "run"
    coreset = Coreset(images, np.eye(10, dtype=np.float32) - np.float32(0.1), np.zeros(()))
    save_coreset(place / "coreset" / "coreset.npz", coreset, data.class_names, 5e-3)
    fitted.save(place / "coreset" / "preprocess.npz")
    command = shlex.join(["distill", "method=random", "evaluation=none", *SMALL, "out=o"])
    write_json(
        place / "result.json",
        {"command": command, "dataset": "digits", "preprocess": dataclasses.asdict(settings)},
    )
    return place


@pytest.fixture
def quick(monkeypatch):
    """Protocols that answer at once: their accuracy is the mean absolute pixel, capped."""

    def measure(names, evaluation, coreset, baseline, target):
        for name in names:
            accuracy = min(1.0, float(abs(np.asarray(coreset.images)).mean()))
            metric = Metric(name, accuracy, None, 1, 60, 0.0, detail={"engine": target.engine})
            yield row_of(metric, settings_of(name, evaluation))

    monkeypatch.setattr("distill_cli.tasks.evaluate.measure", measure)


def evaluation(tmp_path: Path) -> dict:
    (file,) = (tmp_path / "outputs" / "evaluate").rglob("evaluation.json")
    return json.loads(file.read_text())


def test_later_protocols_and_settings_keep_the_earlier_rows(command, tmp_path, folder, quick):
    def measure(*arguments: str) -> list[tuple]:
        done = command("distill-evaluate", f"coreset={folder}", *arguments)
        assert done.code == 0, done.err
        rows = evaluation(tmp_path)["evaluations"]
        return [(row["protocol"], row["settings"]["limit"], row["conditions"]) for row in rows]

    first = measure(*NNGP)
    second = measure("evaluation=[krr_ntk]", "evaluation.limit=60", *SMALL)
    assert [row[0] for row in second] == ["krr_ntk", "krr_nngp"]
    assert second[1:] == first
    third = measure("evaluation=[krr_nngp]", "evaluation.limit=50", *SMALL)
    assert third == [("krr_nngp", 50, first[0][2]), *second]
    assert len(measure(*NNGP)) == 3  # measured again, not kept twice
    other = measure(*NNGP, "architecture.depth=1")
    assert len(other) == 4 and other[0][2] != first[0][2]
    file = folder / "coreset" / "coreset.npz"
    with np.load(file) as arrays:
        np.savez(file, **{**arrays, "images": arrays["images"] + np.float32(0.01)})
    assert len(measure(*NNGP)) == 1  # another coreset: its rows only


def test_several_coresets_in_one_command(command, tmp_path, folder, quick):
    shutil.copytree(folder, tmp_path / "b,c")
    done = command("distill-evaluate", f"coreset={folder},nowhere", *NNGP)
    assert done.code == 2 and done.err == "error: coreset=nowhere: no such file or folder\n"
    assert not list((tmp_path / "outputs" / "evaluate").rglob("evaluation.json"))
    assert command("distill-evaluate", "coreset='b,c'", *NNGP).code == 0  # a comma in its name
    (tmp_path / "b,c").rename(tmp_path / "d")
    done = command("distill-evaluate", f"coreset=[{folder},'d']", *NNGP)
    assert done.code == 0, done.err
    files = sorted((tmp_path / "outputs" / "evaluate").rglob("evaluation.json"))
    assert len(files) == 3
    assert len({json.loads(file.read_text())["command"] for file in files}) == 3


def test_the_engine_can_be_chosen_and_is_in_the_help(command, tmp_path, folder, quick):
    for engine in ("band", "neural_tangents"):
        done = command(
            "distill-evaluate", f"coreset={folder}", *NNGP, f"evaluation.engine={engine}"
        )
        assert done.code == 0, done.err
    rows = evaluation(tmp_path)["evaluations"]
    assert [row["settings"]["engine"] for row in rows] == ["neural_tangents", "band"]
    assert [row["detail"]["engine"] for row in rows] == ["neural_tangents", "band"]
    assert "evaluation.engine=auto" in command("distill-evaluate", "--help").out
    done = command("distill-evaluate", f"coreset={folder}", *NNGP, "evaluation.engine=fast")
    assert done.code == 2 and "choose one of auto, band, neural_tangents" in done.err


def test_the_configuration_cannot_contradict_the_record_of_a_run(command, tmp_path, folder, quick):
    done = command("distill-evaluate", f"coreset={folder}", *NNGP, "preprocess=none")
    assert done.code == 2
    assert "made with preprocess.standardize=True, but the configuration says" in done.err
    assert "coreset.force=true" in done.err and len(done.err.strip().splitlines()) == 1
    arguments = ("preprocess=none", "coreset.force=true")
    done = command("distill-evaluate", f"coreset={folder}", *NNGP, *arguments)
    assert done.code == 0
    assert "looks like standardised channels" in done.err
    row = evaluation(tmp_path)["evaluations"][0]
    assert 0 <= row["accuracy"] <= 1


@pytest.mark.parametrize("format", ["torch", "images"])
def test_an_export_is_measured_like_the_run(command, tmp_path, folder, format, quick):
    for place in (str(folder), export(Config(Source(str(folder)), format, "x"))["folder"]):
        done = command("distill-evaluate", f"coreset={place}", *NNGP)
        assert done.code == 0 and "WARNING" not in done.err, done.err
    files = (tmp_path / "outputs" / "evaluate").rglob("evaluation.json")
    rows = [json.loads(file.read_text())["evaluations"][0] for file in files]
    assert len(rows) == 2
    tolerance = 1e-6 if format == "torch" else 0.01
    assert rows[0]["accuracy"] == pytest.approx(rows[1]["accuracy"], rel=tolerance)


def foreign(folder: Path, name: str, scale: float = 1.0, shift: float = 0.0) -> str:
    coreset = load_coreset(folder).coreset
    np.savez(name, images=coreset.images * scale + np.float32(shift), labels=coreset.labels)
    return name


def test_kip_files_bring_their_preprocessing(command, tmp_path, folder, quick):
    path = foreign(folder, "ConvNet_ssize10_nozca_nol_noaug_ckpt0.npz")
    done = command("distill-evaluate", f"coreset={path}", "evaluation=[krr_ntk]", *NNGP[1:])
    assert done.code == 0 and "WARNING" not in done.err, done.err
    found = evaluation(tmp_path)
    assert found["config"]["preprocess"]["name"] == "kip" and found["coreset"]["format"] == "kip"
    for typed in ("preprocess=none", "preprocess.zca=0.1"):
        done = command("distill-evaluate", f"coreset={path}", *NNGP, typed)
        assert done.code == 2
        assert "it was made with preprocess=kip preprocess.zca=null" in done.err
    done = command("distill-evaluate", f"coreset={path}", *NNGP, "preprocess=kip")
    assert done.code == 0
    white = foreign(folder, "ConvNet_ssize10_zca_nol_noaug_ckpt0.npz")  # a wrong name
    done = command("distill-evaluate", f"coreset={white}", *NNGP)
    assert done.code == 0
    assert "looks like standardised channels without whitening, not ZCA" in done.err


def test_wrong_spaces_are_warned_about_with_what_to_try(command, folder, quick):
    path = foreign(folder, "x.npz", 1e-3, 0.5)
    done = command("distill-evaluate", f"coreset={path}", *NNGP)
    assert done.code == 0
    (line,) = [line for line in done.err.splitlines() if "looks like" in line]
    assert line.startswith("WARNING: ") and "try preprocess=none" in line


def test_dc_experiments_by_index(command, tmp_path, folder, quick):
    from distill_cli.formats.torch_writer import write_torch

    images = np.asarray(load_coreset(folder).coreset.images).transpose(0, 3, 1, 2)
    pairs = [[images * 0, np.arange(10)], [np.ascontiguousarray(images), np.arange(10)]]
    with Path("res.pt").open("wb") as file:
        write_torch(file, {"data": pairs, "accs_all_exps": {}})
    done = command(
        "distill-evaluate", "coreset=res.pt", "coreset.index=1", "evaluation=[dc]", *NNGP[1:]
    )
    assert done.code == 0 and "WARNING" not in done.err, done.err
    found = evaluation(tmp_path)
    assert found["coreset"]["note"] == "experiment 1 of 2"
    assert found["config"]["preprocess"]["name"] == "dc"
    done = command("distill-evaluate", "coreset=res.pt", "coreset.index=2", *NNGP)
    assert done.code == 2 and "holds 2 experiments" in done.err


def test_pictures_without_a_record_get_the_dataset_s_preprocessing(
    command, tmp_path, folder, quick
):
    pictures = Path(export(Config(Source(str(folder)), "images", "x"))["folder"])
    for name in ("manifest.json", "preprocess.npz", "labels.npz"):
        (pictures / name).unlink()
    done = command("distill-evaluate", f"coreset={pictures}", "dataset=digits", *NNGP)
    assert done.code == 0 and "WARNING" not in done.err, done.err
    found = evaluation(tmp_path)
    assert found["coreset"]["format"] == "image_folder"
    expected = abs(np.asarray(load_coreset(folder).coreset.images)).mean()
    assert found["evaluations"][0]["accuracy"] == pytest.approx(expected, rel=0.02)
    raw = command(
        "distill-evaluate", f"coreset={pictures}", "dataset=digits", *NNGP, "preprocess=none"
    )
    assert raw.code == 0
    assert evaluation(tmp_path)["evaluations"][0]["accuracy"] != pytest.approx(expected, rel=0.1)


def renamed(folder: Path, names: list[str]) -> None:
    file = folder / "coreset" / "coreset.npz"
    with np.load(file) as data:
        arrays = dict(data)
    np.savez(file, **(arrays | {"class_names": np.array(names)}))


def test_other_class_names_are_refused_unless_forced(command, folder, quick):
    words = ["Nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    named = f"dataset.class_names=[{','.join(words)}]"
    renamed(folder, [*words[:3], "cat", *words[4:]])
    done = command("distill-evaluate", f"coreset={folder}", named, *NNGP)
    assert done.code == 2
    assert "class 3 is 'cat', but 'three' in dataset=digits" in done.err
    assert done.err.count("\n") == 1
    done = command("distill-evaluate", f"coreset={folder}", named, "coreset.force=true", *NNGP)
    assert done.code == 0, done.err
    assert "class 3 is 'cat'" in done.err and "matched by number" in done.err
    renamed(folder, [word.upper() for word in words])  # spelling does not count
    done = command("distill-evaluate", f"coreset={folder}", named, *NNGP)
    assert (done.code, done.err) == (0, "")


def test_names_against_bare_numbers_are_a_warning(command, folder, quick):
    renamed(folder, list("abcdefghij"))  # the digits are called 0 to 9
    done = command("distill-evaluate", f"coreset={folder}", *NNGP)
    assert done.code == 0, done.err
    assert "class 0 is 'a', but '0' in dataset=digits; classes are matched by number" in done.err


def test_an_evaluation_knows_the_method_of_its_coreset(command, tmp_path, folder, quick):
    record = json.loads((folder / "result.json").read_text())
    write_json(folder / "result.json", record | {"method": "kip"})
    done = command("distill-export", f"coreset={folder}", f"out={tmp_path / 'x'}", "format=npz")
    assert done.code == 0, done.err
    done = command("distill-evaluate", f"coreset={tmp_path / 'x'}", *NNGP)
    assert done.code == 0, done.err
    assert done.out.startswith("KIP on 8 x 8 digits")
    assert evaluation(tmp_path)["method"] == "kip"


CLASSES = {
    "missing in the middle": [0, 1, 2, 4, 5, 6, 7, 8, 9],
    "missing at the end": list(range(9)),
    "unequal": [0, 0, 0, *range(1, 10)],
    "two of each": sorted([*range(10)] * 2),
}


@pytest.mark.parametrize("name", CLASSES)
def test_true_numbers_of_images(command, tmp_path, monkeypatch, capsys, name):
    """What is shown, what the baseline has, and which class is named as missing."""
    labels = np.array(CLASSES[name])
    data = load_dataset(DatasetConfig(cache=False))
    rows = [int(np.flatnonzero(data.train.labels == label)[0]) for label in labels]
    np.savez(tmp_path / "own.npz", images=data.train.images[rows] / np.float32(16), labels=labels)
    baselines = []

    def measure(names, evaluation, coreset, baseline, target):
        assert coreset.labels.shape == (len(labels), 10)
        baselines.append(np.asarray(baseline.labels).argmax(1).tolist())
        yield row_of(Metric(names[0], 0.5, None, 1, 60, 0.0), settings_of(names[0], evaluation))

    monkeypatch.setattr("distill_cli.tasks.evaluate.measure", measure)
    done = command(
        "distill-evaluate", f"coreset={tmp_path}/own.npz", "preprocess=none", "dataset=digits",
        "architecture.depth=2", "evaluation=[krr_nngp]",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert baselines == [labels.tolist()]
    found = evaluation(tmp_path)
    counts = np.bincount(labels, minlength=10).tolist()
    if name == "two of each":
        assert found["ipc"] == 2
        assert "per_class" not in found
        assert "2 images per class" in done.out
    else:
        assert found["ipc"] is None
        assert found["per_class"] == counts
        assert f"{len(labels)} images, {min(counts)} to {max(counts)} per class" in done.out
    missing = [f"{label} ({label})" for label in range(10) if not counts[label]]
    assert ("no image of class " + ", ".join(missing) in done.err) == bool(missing)


def test_images_of_one_value_are_named(command, tmp_path, quick):
    np.savez(tmp_path / "own.npz", images=np.zeros((10, 8, 8, 1), "f4"), labels=np.arange(10))
    done = command("distill-evaluate", f"coreset={tmp_path}/own.npz", "preprocess=none", *NNGP)
    assert done.code == 0
    assert "10 of its 10 images are of one value throughout" in done.err


def test_counts_of_soft_labels():
    from distill_cli.core.coreset_io import class_counts

    hard = np.eye(4, dtype=np.float32)[[0, 0, 3]] - np.float32(0.25)
    assert class_counts(hard).tolist() == [2, 0, 0, 1]
    soft = np.random.default_rng(0).normal(size=(8, 4))
    assert class_counts(soft).tolist() == [2, 2, 2, 2]
    assert class_counts(soft[:7]) is None
    assert class_counts(np.zeros((8, 4))).tolist() == [2, 2, 2, 2]
