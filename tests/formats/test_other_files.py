"""KIP, FRePo, RCIG, plain npz, image folders, safetensors: what each holds, and how it is found."""

import flax.serialization
import numpy as np
import pytest
from PIL import Image

from distill_cli.core.coreset_io import FORMATS, load_coreset, sha256
from distill_cli.errors import UserError
from distill_cli.formats.detect import declared_preprocess, detect
from distill_cli.formats.kip import Name, parse_name

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(4, 6, 5, 3)).astype(np.float32)
LABELS = rng.normal(size=(4, 2)).astype(np.float32)
KIP = "ConvNet_ssize4_zca_nol_noaug_ckpt1000.npz"


def test_every_format_is_a_module_with_read():
    import importlib

    for name in FORMATS:
        assert callable(importlib.import_module(f"distill_cli.formats.{name}").read)


def test_kip(tmp_path):
    path = tmp_path / KIP
    np.savez(path, images=IMAGES, labels=LABELS)
    found = load_coreset(path)
    assert found.format == "kip" and "checkpoint 1000" in found.note
    np.testing.assert_array_equal(found.coreset.images, IMAGES)  # never whitened again
    np.testing.assert_array_equal(found.coreset.labels, LABELS)


def test_kip_names(tmp_path):
    assert parse_name(tmp_path / KIP) == Name("ConvNet", 4, True, False, False, 1000)
    name = "ConvNet3_ssize500_nozca_l_aug_ckpt6.npz"
    assert parse_name(tmp_path / name) == Name("ConvNet3", 500, False, True, True, 6)
    assert parse_name(tmp_path / "FC_ssize10_zca.npz") == Name("FC", 10, True, None, None, None)
    for other in ("ConvNet_ssize4_zca_nol.npz", "best.npz", "a_ssize4_zca_l_aug_ckpt1.npy"):
        assert parse_name(tmp_path / other) is None


def test_kip_files_that_do_not_keep_their_name(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(UserError, match="keep the name"):
        load_coreset(tmp_path / "a.npz", "kip")
    path = tmp_path / KIP.replace("ssize4", "ssize10")
    np.savez(path, images=IMAGES, labels=LABELS)
    with pytest.raises(UserError, match="says 10 images, the file has 4"):
        load_coreset(path)


def test_declared_preprocessing(tmp_path):
    path = tmp_path / KIP
    np.savez(path, images=IMAGES, labels=LABELS)
    zca = ["preprocess=kip", "preprocess.zca=0.1", "preprocess.per_image=true"]
    assert declared_preprocess(path, "auto", None) == zca
    plain = tmp_path / KIP.replace("_zca", "_nozca")
    assert declared_preprocess(plain, "kip", None)[1:] == [
        "preprocess.zca=null", "preprocess.per_image=false",
    ]  # fmt: skip
    assert declared_preprocess(tmp_path, "dc", "mnist") == [
        "preprocess=dc", "preprocess.mean=[0.1307]", "preprocess.std=[0.3081]",
    ]  # fmt: skip
    assert declared_preprocess(tmp_path, "dc", None) == ["preprocess=dc"]
    assert declared_preprocess(tmp_path, "npz", "mnist") == []


def checkpoint(path, **tree):
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def test_frepo_checkpoint(tmp_path):
    params = {"x_proto": IMAGES, "y_proto": LABELS}
    other = {"x_proto": IMAGES + 1, "y_proto": LABELS}
    path = checkpoint(tmp_path / "checkpoint_500", step=3, params=params, ema_average=other)
    found = load_coreset(path)
    np.testing.assert_array_equal(found.coreset.images, IMAGES)
    np.testing.assert_array_equal(found.coreset.labels, LABELS)
    assert (found.format, found.note, float(found.coreset.log_temperature)) == ("frepo", "FRePo", 0)


@pytest.mark.parametrize("nested", [False, True])
def test_rcig_checkpoint_gives_the_average(tmp_path, nested):
    temperature = np.float32(0.342)
    raw = {"x_proto": IMAGES, "y_proto": LABELS, "log_temp": np.float32(0.284)}
    average = {"x_proto": IMAGES + 1, "y_proto": LABELS - 1, "log_temp": temperature}
    if nested:
        raw, average = {"params": raw}, {"params": average}
    path = checkpoint(tmp_path / "checkpoint_15000", params=raw, ema_average=average)
    found = load_coreset(path)
    np.testing.assert_array_equal(found.coreset.images, IMAGES + 1)
    np.testing.assert_array_equal(found.coreset.labels, LABELS - 1)
    assert float(found.coreset.log_temperature) == temperature
    assert found.note == "RCIG, averaged weights"


def test_frepo_npz(tmp_path):
    np.savez(tmp_path / "step000500.npz", image=IMAGES, label=LABELS)
    found = load_coreset(tmp_path / "step000500.npz")
    assert found.format == "frepo"
    np.testing.assert_array_equal(found.coreset.images, IMAGES)


def test_unknown_checkpoints_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no x_proto and y_proto .* found opt_state, params"):
        load_coreset(checkpoint(tmp_path / "checkpoint_1", params={"w": IMAGES}, opt_state={}))
    replicated = {"x_proto": IMAGES[None], "y_proto": LABELS[None]}
    with pytest.raises(UserError, match="axis of devices"):
        load_coreset(checkpoint(tmp_path / "checkpoint_2", params=replicated))
    (tmp_path / "checkpoint_3").write_bytes(b"\xc1 not msgpack")
    with pytest.raises(UserError, match="not a Flax checkpoint"):
        load_coreset(tmp_path / "checkpoint_3")
    with pytest.raises(UserError, match="Orbax or TensorFlow"):
        load_coreset(tmp_path, "frepo")
    (tmp_path / "x.pkl").write_bytes(b"")
    with pytest.raises(UserError, match="bare pickle"):
        load_coreset(tmp_path / "x.pkl")


def test_plain_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=IMAGES.transpose(0, 3, 1, 2), y=np.array([2, 0, 1, 1]))
    found = load_coreset(path)
    assert found.format == "npz"
    np.testing.assert_array_equal(found.coreset.images, IMAGES)
    np.testing.assert_allclose(found.coreset.labels[0], [-1 / 3, -1 / 3, 2 / 3], rtol=1e-6)
    np.savez(path, images=IMAGES, labels=np.array([1, 0, 1, 1]), class_names=np.array(list("abc")))
    assert load_coreset(path).coreset.labels.shape == (4, 3)
    np.savez(path, images=IMAGES, labels=np.array([1, -1, 1, 1]))
    with pytest.raises(UserError, match="run from -1 to 1"):
        load_coreset(path)


def test_image_folder(tmp_path):
    levels = rng.integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    for index, name in enumerate(["b_cat", "a_dog", "a_dog"]):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(levels[index]).save(tmp_path / name / f"{index}.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_dog" / ".hidden.png").write_bytes(b"")
    found = load_coreset(tmp_path)
    assert (found.format, found.pixels, found.class_names) == (
        "image_folder", True, ("a_dog", "b_cat"),
    )  # fmt: skip
    np.testing.assert_allclose(found.coreset.images * 255, levels[[1, 2, 0]], atol=1e-4)
    np.testing.assert_array_equal(found.coreset.labels.argmax(1), [0, 0, 1])
    before = sha256(tmp_path)
    assert before == sha256(tmp_path)
    Image.fromarray(levels[0, :3]).save(tmp_path / "b_cat" / "9.png")
    assert sha256(tmp_path) != before
    with pytest.raises(UserError, match="several sizes"):
        load_coreset(tmp_path)
    (tmp_path / "b_cat" / "9.png").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        load_coreset(tmp_path)


def test_labels_of_an_image_folder_cannot_name_files_elsewhere(tmp_path):
    outside = tmp_path / "outside.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(outside)
    folder = tmp_path / "folder"
    folder.mkdir()
    np.savez(folder / "labels.npz", files=np.array(["../outside.png"]), labels=LABELS[:1])
    with pytest.raises(UserError, match=r"outside\.png, which is not in it"):
        load_coreset(folder)


def test_safetensors_files_that_are_damaged_or_strange(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\x08\x00")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_coreset(path)
    package.save_file({"weights": IMAGES}, path)
    with pytest.raises(UserError, match="missing images, labels, found weights"):
        load_coreset(path)


def test_without_the_package_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "x.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(UserError, match=r"distill-cli\[safetensors\]"):
        load_coreset(tmp_path / "x.safetensors")


def test_detection_of_what_is_not_a_coreset(tmp_path):
    (tmp_path / "notes.txt").write_text("hi")
    with pytest.raises(UserError, match="unknown kind of file"):
        detect(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no such file"):
        detect(tmp_path / "nothing.pt")
