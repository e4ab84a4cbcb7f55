"""Lines of finished networks: sound ones come back, damage costs time and no number."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.evaluation import kept_networks as kept
from distill_cli.evaluation.kept_networks import kept_networks

IMAGES = np.arange(12.0, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(kept, "LEAST", -1.0)


def networks(folder, *parts, count=3):
    """([network], indices that were trained)."""
    trained = []

    def work(index, tell):
        trained.append(index)
        guesses = np.arange(5, dtype=np.int32) % (index + 2)
        return kept.Tested(guesses, {"accuracy": 0.1 * index / 3, "warning": None})

    told = lambda *_: None  # noqa: E731
    wrapped = kept_networks(work, folder, "dc", *(parts or (IMAGES,)))
    return [wrapped(index, told) for index in range(count)], trained


def same(one, other):
    return all(
        np.array_equal(a.guesses, b.guesses) and a.facts == b.facts
        for a, b in zip(one, other, strict=True)
    )


def test_a_second_call_reads_what_the_first_left(tmp_path):
    first, trained = networks(tmp_path / "partial", count=2)
    assert trained == [0, 1]
    second, trained = networks(tmp_path / "partial")
    assert trained == [2] and same(first, second[:2])
    assert networks(None)[1] == networks(None)[1] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"index":1', b'"index":2'), lines[2]], 1),
        (lambda lines: [*lines[:2], lines[2][:-1]], 2),
        (lambda lines: [*lines[:2], lines[2][:9]], 2),
        (lambda lines: [b"", *lines[1:]], 2),
        (lambda lines: [b"\n", *lines], 0),
        (lambda lines: [], 0),
    ],
)
def test_damage_ends_what_is_read(tmp_path, change, left):
    whole, _ = networks(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    found, trained = networks(tmp_path)
    assert len(trained) == 3 - left and same(found, whole)
    assert networks(tmp_path)[1] == []  # what was trained again stands behind what is sound


def test_other_images_and_settings_have_files_of_their_own(tmp_path):
    networks(tmp_path, IMAGES, "width 8")
    for parts in [(IMAGES + 1, "width 8"), (IMAGES, "width 9"), (IMAGES.T, "width 8")]:
        assert networks(tmp_path, *parts)[1] == [0, 1, 2]
    large = np.zeros((100, 100), np.float32)
    networks(tmp_path, jnp.asarray(large))
    assert networks(tmp_path, jnp.asarray(large).at[50, 50].set(1))[1] == [0, 1, 2]
    assert networks(tmp_path, large)[1] == []
    assert len(list(tmp_path.iterdir())) == 6


def test_fast_networks_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "LEAST", 60.0)
    networks(tmp_path / "partial")
    assert not (tmp_path / "partial").exists()


def test_a_full_disk_costs_a_warning(tmp_path, caplog):
    (tmp_path / "partial").touch()
    with caplog.at_level(logging.WARNING):
        assert networks(tmp_path / "partial" / "inside")[1] == [0, 1, 2]
    assert "finished networks are not kept" in caplog.text
