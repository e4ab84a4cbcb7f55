"""A long kernel matrix that is stopped goes on from its finished tiles, with the same bits."""

from pathlib import Path

import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.kernels.exact import gram, kept, neural_tangents, tiles
from distill_cli.kernels.exact.choice import neural_tangents_mb

NET = convnet(1, 1)
RNG = np.random.default_rng(0)
X, Z = (RNG.normal(size=(n, 6, 6, 1)).astype(np.float32) for n in (5, 17))
PAIRS = {"pair": (X, Z), "swapped": (Z, X), "square": (Z, None)}


class Stop(Exception):
    pass


def stop_after(count: int):
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Stop

    return progress


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Small tiles, written as soon as they are there; grows by one with every tile."""
    monkeypatch.setattr(tiles, "ROWS", 2)
    monkeypatch.setattr(tiles, "tile_columns", lambda *_: 4)
    monkeypatch.setattr(kept, "EVERY", -1.0)
    found: list[int] = []
    for module, name in ((tiles, "tile"), (neural_tangents, "block")):
        original = getattr(module, name)

        def counted(*arguments, original=original):
            found.append(1)
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_goes_on_with_the_same_bits(tmp_path: Path, computed, pair):
    whole = gram(NET, *PAIRS[pair])
    every = len(computed)
    with pytest.raises(Stop):
        gram(NET, *PAIRS[pair], progress=stop_after(4), keep=tmp_path)
    computed.clear()
    shares: list[float] = []
    again = gram(NET, *PAIRS[pair], keep=tmp_path, progress=lambda d, t: shares.append(d / t))
    assert len(computed) == every - 4
    assert shares[0] > 4 / every * 0.5 and shares[-1] == 1
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name])
    computed.clear()
    gram(NET, *PAIRS[pair], keep=tmp_path)
    assert not computed  # until the caller removes them


def test_goes_on_in_the_general_engine(tmp_path: Path, computed):
    memory = 16 * neural_tangents_mb(X.shape[1:])  # tiles of 4 x 4 pairs
    options = {"engine": "neural_tangents", "get": ("nngp",), "memory_mb": memory}
    whole = gram(NET, X, Z, **options)
    every = len(computed)
    with pytest.raises(Stop):
        gram(NET, X, Z, progress=stop_after(3), keep=tmp_path, **options)
    computed.clear()
    again = gram(NET, X, Z, keep=tmp_path, **options)
    assert every > 4 and len(computed) == every - 3
    np.testing.assert_array_equal(again["nngp"], whole["nngp"])


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "other"])
def test_damage_costs_time_and_no_bit(tmp_path: Path, computed, how):
    whole = gram(NET, X, Z)
    every = len(computed)
    with pytest.raises(Stop):
        gram(NET, X, Z, progress=stop_after(5), keep=tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    record = len(content) // 5
    if how == "flipped":
        content[3 * record - 7] ^= 4  # in the third
    changed = {
        "flipped": content, "cut": content[: 3 * record - 1], "emptied": b"", "other": b"x" * 999,
    }[how]  # fmt: skip
    file.write_bytes(changed)
    computed.clear()
    again = gram(NET, X, Z, keep=tmp_path)
    sound = 2 if how in ("flipped", "cut") else 0
    assert len(computed) == every - sound
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name])
    computed.clear()
    gram(NET, X, Z, keep=tmp_path)  # what came after the damage was written behind sound records
    assert not computed


def test_other_images_kernels_and_code_have_files_of_their_own(
    tmp_path: Path, computed, monkeypatch
):
    gram(NET, X, Z, keep=tmp_path)
    gram(NET, X, Z + np.float32(1e-6), keep=tmp_path)
    gram(convnet(1, 2), X, Z, keep=tmp_path)
    gram(NET, X, Z, get="ntk", keep=tmp_path)
    gram(NET, Z, None, keep=tmp_path)
    gram(NET, Z, Z.copy(), keep=tmp_path)  # its diagonal is not exact
    monkeypatch.setattr(kept, "code_of", lambda roots: {"kernels.exact.gram": "0"})
    gram(NET, X, Z, keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 7


def test_short_computations_leave_nothing_but_a_stop_does(tmp_path: Path, computed, monkeypatch):
    monkeypatch.setattr(kept, "EVERY", 1e9)
    gram(NET, X, Z, keep=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(Stop):
        gram(NET, X, Z, progress=stop_after(3), keep=tmp_path / "a" / "b")
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1


def test_a_full_disk_costs_a_warning(tmp_path: Path, computed, caplog):
    (tmp_path / "file").write_text("in the way")
    found = gram(NET, X, Z, keep=tmp_path / "file")
    np.testing.assert_array_equal(found["nngp"], gram(NET, X, Z)["nngp"])
    assert caplog.text.count("are not kept") == 1
