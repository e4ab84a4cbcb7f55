"""distill-theory: wrong input is one line before any work; a cell, its file, its report."""

import json
import sys

import numpy as np
import pytest
from test_light import HEAVY, modules_after

SMALL = [
    "d=6", "L=16", "n=3000", "pool=256", "batch=64", "steps=20", "m1=4", "readout=1000",
    "test=1000",
]  # fmt: skip
BAD = {
    "r above d": (["r=40"], "r=40: must be at most d=30"),
    "odd width": (["L=511"], "L=511: must be even"),
    "link": (["link=quda"], "link=quda: unknown (did you mean quad?)"),
    "link file": (["link=none.py:f"], "link=none.py:f: no such file"),
    "odd pairs": (["m1=3"], "m1=3: must be even with pairs=antithetic"),
    "seed": (["seed=-1"], "seed=-1: must lie in [0, 4294967295]"),
    "twice": (["seed=[1,1]"], "seed=[1, 1]"),
    "batch": (["batch=5000"], "batch=5000: must be at most pool=4096"),
    "variant": (["variant=two_step"], "choose one of multi_step, one_step"),
    "measure": (["measure=[d3]"], "choose one of d2, equal_memory, new_init"),
    "ridge": (["ridge=0"], "ridge=0.0: must be above 0"),
    "text": (["d=many"], "d=many: must be a whole number"),
    "key": (["dd=3"], "key=dd: unknown (did you mean d?)"),
    "study": (["study=m3"], "study=m3: unknown"),
    "key beside a study": (["study=m2", "d=5"], "d=5: not beside study=, which sets it; only seed"),
    "seed of a study": (["study=m2", "seed=-1"], "seed=-1: must lie in [0, 4294967295]"),
    "no study": (["study=[]"], "study=[]: give one or more different names"),
    "study twice": (["study=[m2,m2]"], "give one or more different names"),
    "null seed of a study": (["study=m2", "seed=null"], "seed=null: give a number or a list"),
    "one test point": (["test=1"], "test=1: must be at least 2"),
    "huge": (["d=100000000000"], "d=100000000000: must be at most 100000"),
    "wide": (["L=1000000"], "L=1000000: must be at most 20000"),
    "norm": (["row_norm=1e300"], "row_norm=1e+300: must be above 0, at most 1e+06"),
    "measure twice": (["measure=[d2,d2]"], "names one twice"),
    "progress": (["progress=foo"], "progress=foo: unknown"),
    "number for a path": (["retrain", "artefact=3"], "artefact=3: no such file"),
    "number for a folder": (["report", "results=3"], "results=3: holds no result"),
    "task": (["repot"], "task=repot: unknown (did you mean report?)"),
    "nothing to report": (["report"], "holds no result of a study"),
    "no artefact": (["retrain"], "artefact: missing"),
    "missing artefact": (["retrain", "artefact=x.npz"], "artefact=x.npz: no such file"),
    "no coreset": (["subspace"], "coreset: missing"),
    "missing coreset": (["subspace", "coreset=nowhere"], "nowhere"),
}


@pytest.fixture
def theory(monkeypatch, tmp_path, capsys):
    """theory("d=6", ...) runs the entry point in tmp_path: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        from hydra.core.global_hydra import GlobalHydra

        from distill_cli.cli import theory

        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["distill-theory", *arguments])
        capsys.readouterr()
        try:
            theory.main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_line(theory, tmp_path, name):
    arguments, message = BAD[name]
    code, _, err = theory(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.npz")) and not list(tmp_path.rglob("*.json"))


def test_an_artefact_of_something_else(theory, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    code, _, err = theory("retrain", "artefact=other.npz")
    assert code == 2 and "not a file of distill-theory; missing d1_inputs" in err


def test_a_cell_is_kept_and_its_file_retrains_to_the_same_error(theory, tmp_path):
    code, out, err = theory(*SMALL)
    assert code == 0, err
    (result,) = tmp_path.rglob("result.json")
    row = json.loads(result.read_text())["rows"][0]
    wanted = "d r L link variant n m1 m2 floats_d1 floats_d2 floats_affine energy overlap"
    wanted += " mse_teacher mse_lazy mse_d1_ridge mse_d1_d2 mse_new_init mse_equal_memory_real"
    assert set(wanted.split()) <= set(row)
    assert row["floats"] == 4 * 7 + 16 + 7
    assert "finished before" in theory(*SMALL)[1]
    artefact = result.parent / "distilled_seed0.npz"
    code, out, _ = theory("retrain", f"artefact={artefact}")
    assert code == 0 and out.count(repr(row["mse_d1_d2"])) == 2
    tree = json.loads(result.read_text())
    tree["rows"][0]["mse_d1_d2"] *= 2  # as if the link had been another one
    (artefact.parent / "result.json").write_text(json.dumps(tree))
    code, _, err = theory("retrain", f"artefact={artefact}")
    assert code == 2 and "does not give the recorded error" in err
    artefact.unlink()  # a result without its file does not count
    assert "finished before" not in theory(*SMALL)[1]


def test_a_cell_of_one_step(theory, tmp_path):
    code, _, err = theory(*SMALL, "variant=one_step")
    assert code == 0, err
    (result,) = tmp_path.rglob("result.json")
    row = json.loads(result.read_text())["rows"][0]
    assert row["floats"] == 3 * 6 + 16 + 7  # two first halves and their centre
    artefact = result.parent / "distilled_seed0.npz"
    assert theory("retrain", f"artefact={artefact}")[1].count(repr(row["mse_d1_d2"])) == 2
    with np.load(artefact) as arrays:
        whole = {key: arrays[key] for key in arrays.files}
    meta = json.loads(str(whole["meta"]))
    for change, message in (
        ({"d1_centre": None}, "missing d1_centre"),
        ({"meta": "{"}, "missing meta"),
        ({"meta": json.dumps(meta | {"L": "many"})}, "artefact: L=many: must be a whole number"),
        ({"meta": json.dumps({k: v for k, v in meta.items() if k != "lam2"})}, "missing lam2"),
        ({"d1_inputs": whole["d1_inputs"][:1]}, "d1_inputs is float32 (1, 6), must be"),
        ({"d1_inputs": whole["d1_inputs"].astype(np.int8)}, "scaled int8 (2, 6)"),
        ({"d2_labels": whole["d2_labels"][:5]}, "d2_labels is float32 (5,)"),
        ({"d2_labels": None}, "holds no second layer"),
        ({"beta": whole["beta"] * np.nan}, "beta holds NaN"),
        ({"extra": np.zeros(3)}, "unknown array extra"),
    ):
        changed = {k: v for k, v in (whole | change).items() if v is not None}
        np.savez(tmp_path / "changed.npz", **changed)
        code, _, err = theory("retrain", "artefact=changed.npz")
        assert code == 2 and message in err and len(err.splitlines()) == 1, err


def test_a_link_without_signal_is_warned_about(theory):
    code, _, err = theory(*SMALL, "link=cubic", "measure=[]")
    assert code == 0
    assert "link=cubic: the expected Hessian vanishes" in err and "study=controls" in err


def test_a_users_link(theory, tmp_path):
    (tmp_path / "my link.py").write_text("def f(z):\n    return (z ** 2).sum(-1)\n")
    code, _, err = theory(*SMALL, "link=my link.py:f", "measure=[]")
    assert code == 0, err


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_cfg_are_light(tmp_path, arguments):
    loaded = modules_after("distill-theory", arguments, tmp_path)
    assert not loaded & set(HEAVY)
    assert not list(tmp_path.iterdir())


def test_subspace_of_a_coreset_of_digits(theory, tmp_path):
    from distill_cli.core.coreset_io import save_coreset
    from distill_cli.core.types import Coreset
    from distill_cli.data.config import DatasetConfig
    from distill_cli.data.sources import load_dataset

    digits = load_dataset(DatasetConfig(name="digits", source="digits"))
    images = digits.train.images[:20].astype(np.float32) / digits.pixel_max
    labels = np.eye(10, dtype=np.float32)[digits.train.labels[:20]] - 0.1
    save_coreset(
        tmp_path / "c.npz", Coreset(images, labels, np.zeros(())), digits.class_names, None
    )
    small = ["subspace.steps=200", "subspace.width=32", "subspace.seeds=2", "subspace.points=200"]
    code, out, err = theory(
        "subspace", "coreset=c.npz", "dataset=digits", "preprocess=none", *small
    )
    assert code == 0, err
    (path,) = tmp_path.rglob("subspace.json")
    result = json.loads(path.read_text())
    pixel = result["tables"]["pixel"]
    # The coreset is real images: like them, unlike noise.
    close = pixel["real"]["dimension"]["mean"]
    assert pixel["coreset"]["dimension"]["mean"] == pytest.approx(close, rel=0.3)
    assert pixel["noise"]["overlap"]["mean"] == pytest.approx(10 / 64, abs=0.12)
    assert result["train_accuracy"]["mean"] > 0.8
    assert (path.parent / "subspace.png").stat().st_size > 5000
    assert "chance k/p = 0.1562" in out
    code, _, err = theory("subspace", "coreset=c.npz", "preprocess=none", "subspace.k=65", *small)
    assert code == 2 and "subspace.k=65: must be at most 32" in err
