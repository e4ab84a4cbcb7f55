"""Small tables and run folders made by hand, without running anything."""

import json
from pathlib import Path
from typing import Any

import pytest
from table_tree import TREE

from distill_cli.tables.runs import Located
from distill_cli.tables.spec import Table, make_table
from distill_cli.version import __version__


@pytest.fixture
def small_table() -> Table:
    return make_table("small", TREE)


def fake_digest(overrides) -> str:
    words = [word for word in overrides if not word.startswith("out=")]
    return f"{abs(hash(tuple(words))):016x}"[:8]


@pytest.fixture
def locate(tmp_path):
    """Stands for Hydra: a folder from method, dataset, ipc and a hash of the overrides."""

    def found(overrides) -> Located:
        given = dict(word.split("=", 1) for word in overrides)
        digest = fake_digest(overrides)
        folder = tmp_path / given["method"] / given["dataset"] / f"ipc{given['ipc']}" / digest
        return Located(digest, folder, {"krr_nngp": {"ridge": None}, "baseline": True})

    return found


@pytest.fixture
def put(tmp_path, locate):
    """put(cell, seed, accuracy) writes the result.json of a finished run."""

    def write(cell, seed: int, accuracy: float, **more: Any) -> Path:
        place = locate([*cell.argv(seed)[1:], "out=x"])
        settings = {"ridge": None, "baseline": True, "limit": None, "engine": None}
        row = {
            "protocol": "krr_nngp", "accuracy": accuracy, "settings": settings,
            "baseline_random": {"accuracy": 0.5},
        }  # fmt: skip
        result = {
            "digest": place.digest, "version": __version__, "method": "rfad",
            "dataset": cell.values["dataset"], "ipc": cell.values["ipc"], "seed": seed,
            "device": "cpu (2 cores)", "seconds": {"total": 10.0 + seed},
            "peak_memory_mb": {"host": 500 + seed, "device": None},
            "config": {"steps": 40, "hardware": "cpu"}, "evaluations": [row],
        }  # fmt: skip
        place.folder.mkdir(parents=True, exist_ok=True)
        (place.folder / "result.json").write_text(json.dumps(result | more))
        return place.folder

    return write
