"""The load.py of a coreset, run as a user runs it: alone, with NumPy only, from another folder."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill_cli.report.load_template import write_load_py

# Refuses every import that is neither NumPy nor the standard library, then loads load.py by path.
ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top != "numpy" and top not in sys.stdlib_module_names:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
import importlib.util, json
import numpy as np
spec = importlib.util.spec_from_file_location("load", sys.argv[1] + "/load.py")
load = importlib.util.module_from_spec(spec)
spec.loader.exec_module(load)
c = load.load()
pixels = load.to_pixels(c.images)
raw = np.load(sys.argv[2])
np.savez(sys.argv[3], images=c.images, labels=c.labels, hard=c.hard_labels, pixels=pixels,
         again=load.preprocess(pixels), new=load.preprocess(raw))
print(json.dumps([c.log_temperature, c.class_names, str(c.images.dtype), str(c.hard_labels.dtype)]))
"""


def alone(run: Path, tmp_path: Path) -> tuple[dict[str, np.ndarray], list[Any], np.ndarray]:
    """Arrays and values that load.py gives in an isolated interpreter elsewhere, and raw images."""
    write_load_py(run)
    shape = np.load(run / "coreset" / "coreset.npz")["images"].shape[1:]
    most = int(np.load(run / "coreset" / "preprocess.npz")["pixel_max"])
    raw = np.random.default_rng(0).integers(0, most + 1, (4, *shape)).astype(np.uint8)
    np.save(tmp_path / "raw.npy", raw)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = [str(run / "coreset"), str(tmp_path / "raw.npy"), str(tmp_path / "out.npz")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *arguments],
        cwd=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as data:
        return dict(data), json.loads(done.stdout), raw


def slow_preprocess(pixels01: np.ndarray, p: dict[str, Any]) -> np.ndarray:
    """The documented formulas image by image, with W formed as a matrix, in float64."""
    out = []
    for image in pixels01.astype(np.float64):
        x = np.empty_like(image)
        for c in range(image.shape[-1]):
            x[..., c] = (image[..., c] - float(p["mean"][c])) / float(p["std"][c])
        if p["per_image"]:
            x = x - x.mean()
            x = x / np.linalg.norm(x)
        if "zca_vectors" in p:
            u = p["zca_vectors"].astype(np.float64)
            w = u @ np.diag(p["zca_values"] ** -0.5) @ u.T
            x = np.dot(w, x.reshape(-1)).reshape(x.shape)
        out.append(x)
    return np.stack(out)


def test_round_trip_and_oracle_alone(any_run: tuple[str, Path], tmp_path: Path) -> None:
    kind, run = any_run
    got, (temperature, names, images_dtype, hard_dtype), raw = alone(run, tmp_path)
    stored = dict(np.load(run / "coreset" / "preprocess.npz"))
    np.testing.assert_array_equal(got["images"], np.load(run / "coreset/coreset.npz")["images"])
    assert (temperature, names) == (1.5, ["ant", "bee", "wasp & <fly>"])
    assert (images_dtype, hard_dtype) == ("float32", "int64")
    assert got["hard"].tolist() == [0, 0, 1, 1, 2, 2]

    want = slow_preprocess(raw / float(stored["pixel_max"]), stored)
    np.testing.assert_allclose(got["new"], want, atol=2e-6 * np.abs(want).max())

    images = got["images"].astype(np.float64)
    if kind == "per_image":  # offset and scale of the un-whitened image are not kept
        u, s = stored["zca_vectors"].astype(np.float64), stored["zca_values"]
        flat = images.reshape(len(images), -1) @ u @ np.diag(s**0.5) @ u.T
        flat = flat - flat.mean(axis=1, keepdims=True)
        flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        images = (flat @ u @ np.diag(s**-0.5) @ u.T).reshape(images.shape)
        low, high = got["pixels"].min(axis=(1, 2, 3)), got["pixels"].max(axis=(1, 2, 3))
        assert (low >= -1e-6).all()
        assert (high <= 1 + 1e-6).all()
        assert (high - low > 0.5).all()
    np.testing.assert_allclose(got["again"], images, atol=5e-5 * np.abs(images).max())


def test_pixels_are_not_clipped(new_run: Callable[..., Path], tmp_path: Path) -> None:
    run = new_run("plain")
    got, _, _ = alone(run, tmp_path)
    p = np.load(run / "coreset" / "preprocess.npz")
    np.testing.assert_allclose(got["pixels"], got["images"] * p["std"] + p["mean"], atol=1e-6)
    assert got["pixels"].min() < 0
    assert got["pixels"].max() > 1


def test_script_prints_a_summary(run: Path, tmp_path: Path) -> None:
    path = write_load_py(run)
    done = subprocess.run(
        [sys.executable, "-I", str(path)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sha = json.loads((run / "result.json").read_text())["coreset"]["sha256"]
    for expected in ("(6, 6, 5, 3) float32", "(6, 3) float32", "1.5000", "2  bee", sha):
        assert expected in done.stdout
    assert done.stderr == ""


def test_integers_are_raw_and_floats_are_fractions(run: Path) -> None:
    from distill_cli.data import standalone_load as load

    p = load.read_transform(run / "coreset")
    raw = np.random.default_rng(1).integers(0, 256, (3, 6, 5, 3)).astype(np.uint8)
    as_raw = load.preprocess(raw, transform=p)
    np.testing.assert_allclose(as_raw, load.preprocess(raw / 255.0, transform=p), rtol=1e-6)
    as_floats = load.preprocess(raw.astype(np.float32), pixel_max=255, transform=p)
    np.testing.assert_array_equal(as_raw, as_floats)


def test_an_image_without_contrast_becomes_zero() -> None:
    from distill_cli.data import standalone_load as load

    p = {"mean": np.array([0.5]), "std": np.array([0.25]), "per_image": np.bool_(True)}
    got = load.preprocess(np.full((1, 4, 4, 1), 0.3), transform=p)
    np.testing.assert_array_equal(got, np.zeros((1, 4, 4, 1)))


def test_chunks_do_not_matter(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill_cli.data import standalone_load as load

    p = load.read_transform(run / "coreset")
    raw = np.random.default_rng(2).uniform(size=(7, 6, 5, 3))
    whole = load.preprocess(raw, transform=p)
    monkeypatch.setattr(load, "CHUNK", 3)
    np.testing.assert_allclose(load.preprocess(raw, transform=p), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (2, 6, 5, 1), (2, 3, 6, 5)])
def test_wrong_shapes_are_refused(run: Path, shape: tuple[int, ...]) -> None:
    from distill_cli.data import standalone_load as load

    with pytest.raises(ValueError, match=r"images must be \(n, height, width, 3\)"):
        load.preprocess(np.zeros(shape), transform=load.read_transform(run / "coreset"))


def test_grey_images_may_lack_the_channel_axis() -> None:
    from distill_cli.data import standalone_load as load

    p = {"mean": np.array([0.5]), "std": np.array([0.25]), "pixel_max": np.float64(16)}
    got = load.preprocess(np.full((2, 8, 8), 16), transform=p)
    np.testing.assert_allclose(got, np.full((2, 8, 8, 1), 2.0))


def test_docstring_snippets_are_python() -> None:
    import ast
    import textwrap

    from distill_cli.data import standalone_load as load

    assert load.__doc__
    blocks = [b for b in load.__doc__.split("\n\n") if b.lstrip().startswith("import ")]
    assert len(blocks) == 2
    for block in blocks:
        ast.parse(textwrap.dedent(block))


@pytest.mark.parametrize(("zca", "per_image"), [(None, False), (0.1, False), (0.1, True)])
def test_agrees_with_the_transform_of_the_program(
    tmp_path: Path, zca: float | None, per_image: bool
) -> None:
    import jax

    from distill_cli.data import standalone_load as load
    from distill_cli.data.config import PreprocessConfig
    from distill_cli.data.preprocess import fit

    train = np.random.default_rng(6).integers(0, 256, (200, 6, 5, 3)).astype(np.uint8)
    fitted = fit(PreprocessConfig(zca=zca, per_image=per_image), train, 255.0)
    fitted.save(tmp_path / "preprocess.npz")
    p = load.read_transform(tmp_path)
    with jax.numpy_rank_promotion("allow"):
        x = np.asarray(fitted.transform(train[:9]))
    np.testing.assert_allclose(load.preprocess(train[:9], transform=p), x, atol=2e-5)
    if not per_image:
        np.testing.assert_allclose(load.to_pixels(x, p), fitted.invert(x), atol=1e-5)
        np.testing.assert_allclose(load.to_pixels(x, p), train[:9] / 255, atol=1e-4)


@pytest.mark.process
def test_without_its_files_the_program_says_so_in_one_line(run: Path) -> None:
    script = write_load_py(run)
    (run / "coreset" / "coreset.npz").unlink()
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("load.py: no coreset.npz in ")
    assert "format=npz" in done.stderr and done.stderr.count("\n") == 1
