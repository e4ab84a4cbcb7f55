"""The cache: kept, made again where damaged, done without where it cannot be written."""

import logging
from pathlib import Path

import numpy as np
import pytest

from distill_cli.data.cache import cache_dir, cache_key, cached


def counting_build(calls: list[int]):
    def build() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.arange(1000), "names": np.array(["a", "é"])}

    return build


def test_second_call_reads_what_the_first_built(cache_folder: Path):
    calls: list[int] = []
    first = cached("entry", "k", counting_build(calls))
    second = cached("entry", "k", counting_build(calls))
    assert len(calls) == 1
    assert np.array_equal(first["x"], second["x"])
    assert second["names"].tolist() == ["a", "é"]
    assert [path.name for path in cache_folder.iterdir()] == ["entry-k.npz"]


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text", "array"])
def test_damaged_entry_is_made_again(cache_folder: Path, damage: str, caplog):
    calls: list[int] = []
    cached("entry", "k", counting_build(calls))
    path = cache_folder / "entry-k.npz"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[600] ^= 255
    if damage == "array":
        np.save(path.with_suffix(".npy"), np.arange(3))
        content = bytearray(path.with_suffix(".npy").read_bytes())
    parts = {"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}
    path.write_bytes(parts.get(damage, content))
    with caplog.at_level(logging.WARNING):
        arrays = cached("entry", "k", counting_build(calls))
    assert len(calls) == 2
    assert arrays["x"].sum() == 499500
    assert "unusable" in caplog.text
    cached("entry", "k", counting_build(calls))
    assert len(calls) == 2


def test_folder_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        assert cached("entry", "k", counting_build([]))["x"].sum() == 499500
    assert "going on without" in caplog.text


def test_failed_write_leaves_nothing(cache_folder: Path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    assert cached("entry", "k", counting_build([]))["x"].sum() == 499500
    assert list(cache_folder.iterdir()) == []


def test_disabled_cache_writes_nothing(cache_folder: Path):
    cached("entry", "k", counting_build([]), enabled=False)
    assert not cache_folder.exists()


def test_place_of_the_cache(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("DISTILL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "distill_cli"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path("~/.cache/distill_cli").expanduser()


def test_key_depends_on_every_part():
    keys = {cache_key(a=1, b=2), cache_key(a=1, b=3), cache_key(a=2, b=2), cache_key(a=1)}
    assert len(keys) == 4
    assert cache_key(a=1, b=2) == cache_key(b=2, a=1)
