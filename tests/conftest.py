"""Shared fixtures: strict numerics, real data where they are, commands run in this process."""

import os
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

# Compiled programs are shared by workers and by the processes that tests start: half the time of
# tests that start commands.
COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.mkdtemp(prefix="distill-xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", COMPILED)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

pytest_plugins = ["command"]
REPOSITORY = Path(__file__).parents[1]
FIRST_STATES: dict[int, dict] = {}  # of modules' generators


@pytest.fixture(scope="session")
def tfds_dir() -> Path:
    """Folder of prepared image data in TFDS layout; skips where there is none."""
    places = [os.environ.get("DISTILL_TEST_DATA"), os.environ.get("TFDS_DATA_DIR")]
    places.append(str(REPOSITORY.parent / "shared" / "datasets" / "tfds"))
    for place in places:
        if place and (Path(place) / "mnist").is_dir():
            return Path(place)
    pytest.skip("no prepared image data: set DISTILL_TEST_DATA to a TFDS data_dir")


@pytest.fixture(scope="session")
def oracle_coreset() -> Path:
    """The released RFAD CIFAR-10 ipc-1 coreset (images NCHW); skips where it is not."""
    places = [os.environ.get("DISTILL_TEST_ORACLES")]
    places.append(str(REPOSITORY.parent / "shared" / "reference" / "oracles"))
    for place in places:
        if place and (Path(place) / "rfad_cifar10_ipc1.npz").is_file():
            return Path(place) / "rfad_cifar10_ipc1.npz"
    pytest.skip("released coreset not found: set DISTILL_TEST_ORACLES to its folder")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A module's own generator starts every test from one state, whatever ran before on this
    worker; so a test has the same numbers alone, in a part of the suite and in all of it."""
    module = getattr(item, "module", None)
    for name in ("RNG", "rng"):
        generator = getattr(module, name, None)
        if isinstance(generator, np.random.Generator):
            first = FIRST_STATES.setdefault(id(generator), generator.bit_generator.state)
            generator.bit_generator.state = first


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that made the folder of compiled programs removes it."""
    if COMPILED is not None:
        shutil.rmtree(COMPILED, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what -m does not ask for: slow tests, and gpu tests without a GPU."""
    asked = config.getoption("-m") or ""
    has_gpu = any(device.platform != "cpu" for device in jax.devices())
    for item in items:
        if "slow" in item.keywords and "slow" not in asked:
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))
        if "gpu" in item.keywords and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))
