"""init=coreset: a run begins from a saved coreset, ours or another program's, in its own space."""

import json
from pathlib import Path

import flax.serialization
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.core.coreset_io import CoresetFile, load_coreset
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError
from distill_cli.init.base import Request
from distill_cli.init.coreset import Config, initial
from distill_cli.naming import content
from tiny import TINY

RUN = (*TINY, "evaluation=none")
SHAPE = (4, 4, 1)


def request(images: np.ndarray, labels: np.ndarray, ipc: int, weights=None) -> Request:
    coreset = Coreset(images, labels, np.asarray(0.5))
    file = CoresetFile(coreset, None, None, Path(__file__), ridge_weights=weights)
    return Request(
        images, np.zeros(1), ipc, 3, 0, convnet(4, 2), 16, stored=lambda settings: file
    )  # fmt: skip


def hard(*labels: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(labels)] - np.float32(1 / 3)


def test_images_come_class_by_class_with_all_that_belongs_to_them():
    images = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1) * np.ones(SHAPE, np.float32)
    labels = hard(2, 0, 1, 0, 2, 1)
    found = initial(Config(path=__file__), request(images, labels, 2, np.arange(1.0, 7.0)))
    order = [1, 3, 2, 5, 0, 4]
    np.testing.assert_array_equal(found.images, images[order])
    np.testing.assert_array_equal(found.targets, labels[order])
    np.testing.assert_array_equal(found.ridge_weights, np.array(order) + 1.0)
    assert found.log_temperature == 0.5 and found.rows is None


def test_learned_labels_stay_where_they_are_even_where_they_drifted():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, *SHAPE)).astype(np.float32)
    labels = rng.normal(size=(6, 3)).astype(np.float32)
    found = initial(Config(path=__file__), request(images, labels, 2))
    np.testing.assert_array_equal(found.targets, labels)
    np.testing.assert_array_equal(found.images, images)


@pytest.mark.parametrize(
    ("labels", "ipc", "said"),
    [
        (hard(0, 1, 2), 2, "1 per class, but ipc=2; ipc=1 fits"),
        (hard(0, 0, 1, 2), 1, "1 or 2 per class, but ipc=1; every class needs as many"),
        (hard(0, 0, 1, 1), 2, "2 per class, but ipc=2; no image of class 2"),
        (hard(1, 2), 1, "but ipc=1; no image of class 0"),
        (np.arange(12.0, dtype=np.float32).reshape(4, 3), 1, "1.33 per class"),
    ],
)
def test_other_numbers_of_images_are_refused(labels, ipc, said):
    images = np.zeros((len(labels), *SHAPE), np.float32)
    with pytest.raises(UserError, match=said):
        initial(Config(path=__file__), request(images, labels, ipc))


@pytest.mark.parametrize(
    ("words", "said"), [((), "give init.path="), (("init.path=/nowhere",), "/nowhere: no such")]
)
def test_a_start_that_is_not_there_ends_before_any_work(command, tmp_path, words, said):
    done = command("distill", *RUN, "init=coreset", *words)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "cache").exists() and not list(tmp_path.rglob("distill.log"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": __file__, "format": "jpg"}, "init.format=jpg"),
        ({"path": __file__, "index": -1}, "init.index=-1"),
    ],
)
def test_bad_settings_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        Config(**options)


@pytest.fixture
def made(command, tmp_path) -> Path:
    """A run with learned labels."""
    done = command("distill", *RUN, "labels=learned", "out=made")
    assert done.code == 0, done.err
    (file,) = (tmp_path / "made").rglob("result.json")
    return file.parent


def started(command, tmp_path: Path, out: str, *words: str) -> tuple[dict, dict[str, np.ndarray]]:
    done = command("distill", *RUN, f"out={out}", "init=coreset", *words)
    assert done.code == 0, done.err
    (file,) = (tmp_path / out).rglob("result.json")
    with np.load(file.parent / "coreset" / "initial.npz") as data:
        return json.loads(file.read_text()), dict(data)


def test_a_run_begins_where_another_ended(command, tmp_path, made):
    ended = load_coreset(made).coreset
    for at, path in enumerate((made, made / "coreset" / "coreset.npz")):
        words = (f"init.path={path}", "labels=learned")
        result, begun = started(command, tmp_path, f"on{at}", *words)
        np.testing.assert_array_equal(begun["images"], ended.images)
        np.testing.assert_array_equal(begun["labels"], ended.labels)
        assert float(begun["log_temperature"]) == float(ended.log_temperature)
        assert result["initial_record"]["format"] == "distill"
    assert result["digest"] in str(next((tmp_path / "on0").rglob("result.json")))  # one content
    _, begun = started(command, tmp_path, "fixed", f"init.path={made}")
    assert set(np.unique(begun["labels"]).round(6)) == {np.float32(-0.1), np.float32(0.9)}


def test_another_preprocessing_goes_through_pixels(command, tmp_path, made):
    from distill_cli.data.standalone_load import to_pixels

    with np.load(made / "coreset" / "preprocess.npz") as data:
        pixels = to_pixels(np.asarray(load_coreset(made).coreset.images), dict(data))
    _, begun = started(command, tmp_path, "plain", f"init.path={made}", "preprocess=none")
    np.testing.assert_allclose(begun["images"], pixels, atol=1e-5)


def test_a_changed_coreset_is_another_run(command, tmp_path, made):
    words = (f"init.path={made}", "labels=learned")
    first, _ = started(command, tmp_path, "a", *words)
    file = made / "coreset" / "coreset.npz"
    with np.load(file) as data:
        arrays = dict(data)
    np.savez(file, **arrays | {"images": arrays["images"] + np.float32(0.1)})
    second = command("distill", *RUN, "out=a", "init=coreset", *words)
    assert second.code == 0
    digests = {p.parent.name for p in (tmp_path / "a").rglob("result.json")}
    assert len(digests) == 2 and first["digest"] in digests


def test_a_foreign_coreset_must_be_in_the_runs_space(command, tmp_path):
    images = np.random.default_rng(0).normal(size=(10, 8, 8, 1)).astype(np.float32)
    labels = np.eye(10, dtype=np.float32) - np.float32(0.1)
    path = tmp_path / "checkpoint_1"
    tree = {"params": {"x_proto": images, "y_proto": labels}}
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    done = command("distill", *RUN, "init=coreset", f"init.path={path}")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "made with preprocess=frepo, but the run has preprocess=rfad" in done.err
    _, begun = started(command, tmp_path, "own", f"init.path={path}", "preprocess=frepo")
    np.testing.assert_array_equal(begun["images"], images)


def test_wrong_sizes_end_before_any_work(command, made):
    for words, said in (
        (("ipc=2",), "1 per class, but ipc=2; ipc=1 fits"),
        (("dataset.image_size=4",), "images are 8x8x1, but dataset=digits has"),
    ):
        done = command("distill", *RUN, "init=coreset", f"init.path={made}", *words)
        if done.code == 2 and "image_size" in done.err:
            continue  # digits have one size
        assert done.code == 2 and said in done.err and done.err.count("\n") == 1


def test_the_coreset_is_measured_after_its_start_is_gone(command, tmp_path, made):
    started(command, tmp_path, "on", f"init.path={made}", "labels=learned")
    (file,) = (tmp_path / "on").rglob("result.json")
    (made / "coreset" / "coreset.npz").unlink()
    done = command(
        "distill-evaluate", f"coreset={file.parent}", "evaluation=[krr_nngp]", "evaluation.limit=50"
    )
    assert done.code == 0, done.err


def test_content_of_paths(tmp_path):
    assert content("/nowhere/at/all") == "/nowhere/at/all"
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert content(str(tmp_path / "a")) != content(str(tmp_path))
    (tmp_path / "run" / "coreset").mkdir(parents=True)
    (tmp_path / "run" / "coreset" / "coreset.npz").write_bytes(b"1")
    inner = tmp_path / "run" / "coreset" / "coreset.npz"
    assert content(str(tmp_path / "run")) == content(str(inner)) == content(str(inner.parent))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: (place / "x.txt").write_text("{}"), "give init.format="),
        (lambda place: (place / "x.pkl").write_bytes(b""), "a bare pickle"),
        (lambda place: np.savez(place / "x.npz", images=np.ones(3)), "x.npz"),
        (lambda place: (place / "x").mkdir(), "no coreset/coreset.npz in it"),
    ],
)
def test_errors_of_reading_name_the_keys_that_were_typed(command, tmp_path, make, said):
    make(tmp_path)
    (path,) = tmp_path.glob("x*")
    done = command("distill", *RUN, "init=coreset", f"init.path={path}")
    assert done.code == 2 and done.err.count("\n") == 1
    assert done.err.startswith(f"error: init.path={path}") and said in done.err
    assert "coreset=" not in done.err and "coreset.format" not in done.err
