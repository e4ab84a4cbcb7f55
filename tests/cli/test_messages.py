"""What wrong words on the command line are answered with: one line, code 2, the way out."""

import json
import subprocess
import sys

import numpy as np
import pytest

CASES = {
    "keys of the chosen method": (
        ["method=frepo", "method.foo=1"], "method.online_rate", "method.jackknife",
    ),
    "keys of the chosen dataset": (["dataset=folder", "dataset.foo=1"], "dataset.background", None),
    "one value, several given": (
        ["ipc=1,10"], "several, one run each, are a sweep: distill -m ipc=1,10", "[1,10]",
    ),
    "several methods": (["method=rfad,kip"], "are a sweep: distill -m method=rfad,kip", None),
    "a comma at the end": (["ipc=1,"], "ipc=1,: a value is missing behind the comma", "quotes"),
    "a path that is nowhere": (["some/where"], "some/where: not understood", "quotes"),
    "a list without brackets": (["snapshots=1,10"], 'a list is written "snapshots=[1,10]"', None),
    "a list of the chosen method": (
        ["method=kip", "method.kernels=a,b"], 'written "method.kernels=[a,b]"', None,
    ),
    "a list of protocols": (["evaluation=krr_nngp,dc"], 'written "evaluation=[krr_nngp,dc]"', None),
    "dashes": (["--seed", "3"], "settings are typed without dashes, e.g. seed=VALUE", "usage"),
    "one dash": (["-ipc=3"], "e.g. ipc=3", "usage"),
    "a word": (["seeds"], "seeds: not understood; settings are key=value", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_wrong_words(command, tmp_path, name):
    words, said, not_said = CASES[name]
    done = command("distill", *words)
    assert done.code == 2
    (line,) = done.err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not_said is None or not_said not in line
    assert not (tmp_path / "outputs").exists()


def test_a_missing_launcher_names_the_extra(command, monkeypatch):
    from distill_cli.cli.messages import one_line

    error = RuntimeError("Could not find 'hydra/launcher/joblib'\n\nAvailable options: basic")
    assert one_line(error) == (
        "hydra/launcher=joblib: its package is not installed; the extra parallel brings it, "
        'pip install ".[parallel]"'
    )


@pytest.mark.process
def test_slurm_without_slurm(tmp_path):
    pytest.importorskip("submitit")
    argv = [sys.executable, "-m", "distill_cli.cli.distill", "-m",
            "hydra/launcher=submitit_slurm", "seed=0,1"]  # fmt: skip
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "srun" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_lone_path_is_the_coreset(command, tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("distill-export", "distill-evaluate"):
        done = command(name, "mine")
        assert done.code == 2
        assert "coreset=mine: no coreset/coreset.npz in it" in done.err


@pytest.mark.parametrize("name", ["checkpoint_15000", "data_best.pt", "other.npz"])
def test_a_folder_with_a_file_of_a_known_kind(command, tmp_path, name):
    place = tmp_path / "theirs"
    place.mkdir()
    (place / name).touch()
    done = command("distill-evaluate", f"coreset={place}", "dataset=digits")
    assert done.code == 2
    assert f"it holds {name}: give the file, coreset={place}/{name}" in done.err


def test_a_text_file_is_no_npz(command, tmp_path):
    (tmp_path / "x.npz").write_text("hello")
    done = command("distill", "dataset=npz", f"dataset.path={tmp_path}/x.npz", "dataset.name=x")
    assert done.code == 2
    assert "is not an .npz file" in done.err
    assert "pickle" not in done.err


def test_where_prepared_data_lie(command, tmp_path):
    version = tmp_path / "data" / "cifar10" / "3.0.2"
    version.mkdir(parents=True)

    def said(place, *more):
        done = command("distill", "dataset=cifar10", f"dataset.data_dir={place}", *more,
                       "dataset.download=false")  # fmt: skip
        assert done.code == 2
        return done.err

    assert f"{version} has no dataset_info.json" in said(tmp_path / "data")
    (version / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    for place in (version, version.parent):
        assert f"in the dataset's own folder; give {tmp_path}/data" in said(place)
    assert "which has 3.0.2" in said(tmp_path / "data", "dataset.version=3.0.9")
    assert "is not prepared in" in said(tmp_path)


def test_a_declared_preprocessing_counts_for_more_than_statistics(tmp_path):
    """A set that was learned from noise looks whitened; its format says how it was made."""
    from types import SimpleNamespace

    from distill_cli.core.coreset_io import checked
    from distill_cli.tasks.coreset_fits import declared

    images = np.random.default_rng(0).normal(size=(10, 8, 8, 1)).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)
    for format, name, known in (("dc", "dc", True), ("dc", "rfad", False), ("kip", "kip", False)):
        file = checked(tmp_path / "x.pt", format, images, labels)
        problem = SimpleNamespace(
            dataset=SimpleNamespace(name="digits"),
            config=SimpleNamespace(preprocess=SimpleNamespace(name=name)),
        )
        assert declared(file, problem) == known


@pytest.mark.process
def test_a_reader_that_ends_early(tmp_path):
    """distill | head -1: one line, no traceback, and the same command goes on."""
    words = "method=random evaluation=[krr_nngp] evaluation.limit=5 progress=plain"
    line = f"{sys.executable} -m distill_cli.cli.distill {words} | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 141
    assert done.stderr == (
        "stopped: the program that read the output has ended; the same command goes on\n"
    )


@pytest.mark.parametrize("name", ["distill-evaluate", "distill-export"])
def test_a_lone_word_is_the_coreset(command, name):
    done = command(name, "nowhere")
    assert (done.code, done.err) == (2, "error: coreset=nowhere: no such file or folder\n")
