"""A small run folder, as a finished run leaves it, with each kind of preprocessing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from run_folders import KINDS, make_run


@pytest.fixture(params=KINDS)
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """(kind of preprocessing, run folder)."""
    return request.param, make_run(tmp_path / "run", request.param)


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run in a folder of the test's own."""
    return lambda *args, **kwargs: make_run(tmp_path / "run", *args, **kwargs)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")
