"""64-bit numbers, as the tasks set them."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def numerics():
    from distill_cli.tasks.runtime import configure_jax

    configure_jax()
