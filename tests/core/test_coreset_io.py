"""Coreset files: round trip, peers' keys, and everything that can be wrong with them."""

import numpy as np
import pytest

from distill_cli.core.coreset_io import centred_targets, load_coreset, record, save_coreset
from distill_cli.core.files import write_npz
from distill_cli.core.types import Coreset
from distill_cli.errors import StorageError, UserError

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(4, 6, 5, 3)).astype(np.float32)
LABELS = rng.normal(size=(4, 2)).astype(np.float32)


def test_round_trip(tmp_path):
    path = tmp_path / "coreset" / "coreset.npz"
    save_coreset(path, Coreset(IMAGES, LABELS, np.float64(1.5)), ["cat", "dog"], 5e-3)
    for place in (path, path.parent, tmp_path):  # file, coreset folder, run folder
        found = load_coreset(place)
        np.testing.assert_array_equal(found.coreset.images, IMAGES)
        np.testing.assert_array_equal(found.coreset.labels, LABELS)
        assert float(found.coreset.log_temperature) == 1.5
        assert (found.class_names, found.ridge, found.path) == (("cat", "dog"), 5e-3, path)


def test_rfad_files_are_nchw_with_their_own_keys(tmp_path):
    path = tmp_path / "best.npz"
    np.savez(path, images=IMAGES.transpose(0, 3, 1, 2), labels=LABELS, k=3.7, jit=5e-3)
    for format in ("auto", "rfad"):
        found = load_coreset(path, format)
        np.testing.assert_array_equal(found.coreset.images, IMAGES)
        assert (float(found.coreset.log_temperature), found.ridge) == (3.7, 5e-3)


def test_released_rfad_file(oracle_coreset):
    found = load_coreset(oracle_coreset)
    images = found.coreset.images
    assert images.shape == (10, 32, 32, 3)
    assert float(images.min()) == pytest.approx(-4.76, abs=0.01)
    assert float(images.max()) == pytest.approx(4.04, abs=0.01)
    assert float(np.sqrt((images**2).mean())) == pytest.approx(0.755, abs=1e-3)
    norms = np.sqrt((images**2).sum((1, 2, 3)))
    assert float(norms.mean()) == pytest.approx(41.8, abs=0.05)
    assert float(found.coreset.log_temperature) == pytest.approx(3.7145, abs=1e-4)
    assert found.ridge == pytest.approx(5e-3)


GOOD = {"images": IMAGES, "labels": LABELS, "log_temperature": np.float64(0)}
BAD = {
    "missing": ({"images": IMAGES}, "missing labels, log_temperature"),
    "nan": (GOOD | {"images": IMAGES * np.nan}, "NaN"),
    "infinite": (GOOD | {"labels": LABELS * np.inf}, "infinite"),
    "flat": (GOOD | {"images": IMAGES[0]}, "4-dimensional"),
    "integers": (GOOD | {"labels": np.zeros((4, 2), int)}, "floats"),
    "lengths": (GOOD | {"labels": LABELS[:3]}, "4 images but 3 labels"),
    "empty": ({k: v[:0] if v.ndim else v for k, v in GOOD.items()}, "0 images"),
    "temperature": (GOOD | {"log_temperature": np.array([np.nan])}, "log_temperature"),
    "text": (GOOD | {"log_temperature": np.array("warm")}, "log_temperature"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_files_are_one_clear_line(tmp_path, name):
    arrays, message = BAD[name]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message) as error:
        load_coreset(path, "distill")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_pickles_are_refused_and_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "trap.npz"
    np.savez(path, **GOOD | {"images": np.array([Trap()], dtype=object)})
    with pytest.raises(UserError, match="pickle"):
        load_coreset(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut"])
def test_unreadable_files(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz"):
        load_coreset(path)


def test_truncated_archive(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **GOOD)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="not a readable"):
        load_coreset(path)


def test_missing_paths_and_unknown_formats(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_coreset(tmp_path / "nothing")
    with pytest.raises(UserError, match="is the run finished"):
        load_coreset(tmp_path)
    with pytest.raises(UserError, match="choose one of auto, dc, distill"):
        load_coreset(tmp_path, "rfat")


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, {"x": np.arange(3)})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StorageError, match="No space left"):
        write_npz(path, {"x": np.arange(9)})
    np.testing.assert_array_equal(np.load(path)["x"], np.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_snapshots_of_a_run_find_its_record_and_its_transform(tmp_path):
    path = tmp_path / "run" / "coreset" / "steps" / "000100.npz"
    save_coreset(path, Coreset(IMAGES, LABELS, np.float64(0)), ["cat", "dog"], None)
    found = load_coreset(path)
    assert found.transform is None and record(path) == {}
    (path.parents[1] / "preprocess.npz").write_bytes(b"")
    (tmp_path / "run" / "result.json").write_text('{"command": "distill ipc=2"}')
    assert found.transform == path.parents[1] / "preprocess.npz"
    for place in (path, path.parent, path.parents[1], path.parents[2]):
        assert record(place) == {"command": "distill ipc=2"}
    assert record(tmp_path) == {}


def test_integer_labels_become_centred_targets(tmp_path):
    found = centred_targets(tmp_path, np.array([2, 0, 1], np.uint8))
    np.testing.assert_allclose(found, np.eye(3)[[2, 0, 1]] - 1 / 3, atol=1e-7)
    assert found.dtype == np.float32
    for bad in (np.array([0, 0]), np.array([-1, 1]), np.array([0.5, 1]), np.zeros((0,), int)):
        with pytest.raises(UserError, match="labels"):
            centred_targets(tmp_path, bad)
