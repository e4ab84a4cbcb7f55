"""torch's .pt files without torch: real files, round trips, and hostile pickles."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distill_cli.core.coreset_io import load_coreset
from distill_cli.errors import UserError
from distill_cli.formats.torch_reader import read_torch
from distill_cli.formats.torch_writer import write_torch

DATA = Path(__file__).parent / "data"


def expected(name: str) -> np.ndarray:
    with np.load(DATA / "expected.npz") as arrays:
        return arrays[name]


def written(path: Path, value) -> Path:
    with path.open("wb") as file:
        write_torch(file, value)
    return path


def zipped(path: Path, body: bytes, **storages: bytes) -> Path:
    """A .pt file whose pickle is `body`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", body)
        for key, data in storages.items():
            archive.writestr(f"x/data/{key.lstrip('s')}", data)
    return path


def test_files_of_torch_itself():
    tree = read_torch(DATA / "dc_tiny.pt")
    assert tree["accs_all_exps"] == {"ConvNet": [0.5, 0.25, 0.125]}
    for index in (0, 1):
        images, labels = tree["data"][index]
        np.testing.assert_array_equal(images, expected(f"dc{index}"))
        assert images.dtype == np.float32 and labels.dtype == np.int64
    np.testing.assert_array_equal(read_torch(DATA / "images_best.pt"), expected("mtt"))


@pytest.mark.parametrize("format", ["auto", "dc"])
def test_dc(format):
    found = load_coreset(DATA / "dc_tiny.pt", format, index=1)
    np.testing.assert_array_equal(found.coreset.images, expected("dc1").transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found.coreset.labels.argmax(1), [0, 1, 0, 1])
    np.testing.assert_array_equal(np.unique(found.coreset.labels), [-0.5, 0.5])
    assert (found.format, found.note, found.ridge) == ("dc", "experiment 1 of 2", None)


@pytest.mark.parametrize("place", [DATA, DATA / "images_best.pt"])
def test_mtt(place):
    found = load_coreset(place)
    np.testing.assert_array_equal(found.coreset.images, expected("mtt").transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found.coreset.labels.argmax(1), [1, 0])
    assert found.format == "mtt"


def test_mtt_takes_the_last_step_and_never_the_copies_for_viewing(tmp_path):
    for name, value in (("images_900", 0.0), ("images_1000", 1.0), ("images_zca_2000", 2.0)):
        written(tmp_path / f"{name}.pt", np.full((2, 1, 4, 4), value, np.float32))
    for step in (900, 1000):
        written(tmp_path / f"labels_{step}.pt", np.arange(2))
    assert load_coreset(tmp_path).coreset.images.max() == 1
    assert load_coreset(tmp_path / "images_900.pt").coreset.images.max() == 0
    (tmp_path / "labels_1000.pt").unlink()
    with pytest.raises(UserError, match=r"labels_1000\.pt is missing"):
        load_coreset(tmp_path)


DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | ARRAYS
TREES = st.recursive(LEAVES, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=6)


def same(one, two) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return type(one) is type(two) and one == two


@settings(deadline=None, max_examples=60)
@given(tree=TREES)
def test_what_is_written_is_read(tree, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("pt") / "x.pt", tree)
    assert same(tree, read_torch(path))


def test_the_same_content_gives_the_same_bytes_and_tensors_are_aligned(tmp_path):
    tree = {"a": np.arange(5.0), "b": np.ones((3, 2), np.float32)}
    one, two = (written(tmp_path / name, tree).read_bytes() for name in ("1.pt", "2.pt"))
    assert one == two
    with zipfile.ZipFile(tmp_path / "1.pt") as archive:
        for key in ("0", "1"):
            info = archive.getinfo(f"coreset/data/{key}")
            name_size, extra_size = (
                int.from_bytes(one[info.header_offset + at : info.header_offset + at + 2], "little")
                for at in (26, 28)
            )
            assert (info.header_offset + 30 + name_size + extra_size) % 64 == 0


class Trap:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_code_in_a_pickle_is_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    path = zipped(tmp_path / "x.pt", pickle.dumps({"data": Trap(f"touch {sprung}")}, 2))
    with pytest.raises(UserError, match="nothing was executed") as error:
        load_coreset(path)
    assert "system" in str(error.value) and "\n" not in str(error.value)
    assert not sprung.exists()


# Opcodes: c module\nname\n = look up, ( = mark, t = tuple, R = call, b = set state, . = end.
ENCODE = b"c_codecs\nencode\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def storage(count: int, key: bytes = b"0", kind: bytes = b"FloatStorage") -> bytes:
    size = pickle.dumps(count, 2)[2:-1]
    return (
        b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\n"
        b"X" + len(key).to_bytes(4, "little") + key + b"X\x03\x00\x00\x00cpu" + size + b"tQ"
    )  # fmt: skip


def tensor(offset: bytes, size: bytes, stride: bytes, source: bytes = b"") -> bytes:
    return TENSOR + b"(" + (source or storage(4)) + offset + size + stride + b"\x89}tR."


ONE = b"K\x01"
HOSTILE = {
    "eval": b"cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.",
    "getattr": b"cbuiltins\ngetattr\n.",
    "dotted": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    "torch load": b"ctorch.serialization\nload\n.",
    "numpy load": b"cnumpy\nload\n.",
    "state of a function": b"\x80\x02" + ENCODE + b"}X\x01\x00\x00\x00aK\x01sb.",
    "slots of a function": b"\x80\x02" + ENCODE + b"N}X\x09\x00\x00\x00_functionK\x01s\x86b.",
    "new object of a function": b"\x80\x02" + ENCODE + b")\x81.",
    "encoding": ENCODE + b"(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
    "object dtype": b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR.",
    "outside": tensor(ONE, b"(K\x04t", b"(K\x01t"),
    "negative offset": tensor(b"J\xff\xff\xff\xff", b"(K\x01t", b"(K\x01t"),
    "negative stride": tensor(ONE, b"(K\x02t", b"(J\xff\xff\xff\xfft"),
    "bomb": tensor(b"K\x00", b"(J\x00\x00\x00\x40J\x00\x00\x00\x40t", b"(K\x00K\x00t"),
    "ranks": tensor(b"K\x00", b"(K\x01t", b"(t"),
    "truth for a number": tensor(b"\x88", b"(K\x01t", b"(K\x01t"),
    "no storage": tensor(b"K\x00", b"(K\x01t", b"(K\x01t", b"K\x05"),
    "size of storage": tensor(b"K\x00", b"(K\x01t", b"(K\x01t", storage(5)),
    "path of storage": tensor(b"K\x00", b"(K\x01t", b"(K\x01t", storage(4, b"../0")),
    "missing storage": tensor(b"K\x00", b"(K\x01t", b"(K\x01t", storage(4, b"7")),
    "type of storage": tensor(
        b"K\x00", b"(K\x01t", b"(K\x01t", storage(4, kind=b"BFloat16Storage")
    ),
    "persistent text": b"Pevil\n.",
    "cut off": tensor(b"K\x00", b"(K\x01t", b"(K\x01t")[:-9],
    "empty": b"",
}


def test_the_tensor_of_the_hostile_cases_is_readable_when_honest(tmp_path):
    body = tensor(ONE, b"(K\x03t", b"(K\x01t")
    path = zipped(tmp_path / "x.pt", body, s0=np.arange(4, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_torch(path), [1, 2, 3])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_end_in_one_clear_line(tmp_path, name):
    path = zipped(tmp_path / "x.pt", HOSTILE[name], s0=bytes(16))
    with pytest.raises(UserError, match=r"x\.pt") as error:
        read_torch(path)
    assert "\n" not in str(error.value)


def test_files_that_are_no_zip_of_torch(tmp_path):
    with pytest.raises(UserError, match=r"before 1\.6"):
        read_torch(DATA / "legacy.pt")
    with pytest.raises(UserError, match=r"torch\.nn\.modules"):
        read_torch(DATA / "module.pt")
    (tmp_path / "x.pt").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"no \.pt file"):
        read_torch(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(UserError, match="not one that torch"):
        read_torch(tmp_path / "y.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"]." + bytes(10**6))
    with pytest.raises(UserError, match="not one that torch"):
        read_torch(tmp_path / "bomb.pt")
    cut = io.BytesIO((DATA / "dc_tiny.pt").read_bytes()[:-300])
    (tmp_path / "z.pt").write_bytes(cut.getvalue())
    with pytest.raises(UserError, match=r"z\.pt"):
        read_torch(tmp_path / "z.pt")


BAD_DC = {
    "no pairs": ({"data": []}, "list of"),
    "no tensors": ({"data": [[1, 2]]}, "pair of tensors"),
    "axes": ({"data": [[np.zeros((2, 3), np.float32), np.arange(2)]]}, "n, c, h, w"),
    "labels": ({"data": [[np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int64)]]}, "0 to 0"),
    "lengths": ({"data": [[np.zeros((3, 1, 4, 4), np.float32), np.arange(2)]]}, "3 images but 2"),
    "tree": ({"images": 3}, "tensors images and labels"),
    "other": ({"weights": 3}, "neither DC's"),
}


@pytest.mark.parametrize("name", BAD_DC)
def test_malformed_contents(tmp_path, name):
    tree, message = BAD_DC[name]
    with pytest.raises(UserError, match=message):
        load_coreset(written(tmp_path / "x.pt", tree))


def test_index_beyond_the_experiments():
    with pytest.raises(UserError, match=r"coreset\.index=2: .* holds 2 experiments, 0 to 1"):
        load_coreset(DATA / "dc_tiny.pt", index=2)
    with pytest.raises(UserError, match="holds one coreset only"):
        load_coreset(DATA, index=1)
