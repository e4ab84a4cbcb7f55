"""The plan's line on what changes over a run."""

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.tasks.plan import course


def line(*options: str) -> list[str]:
    return course(parse(compose("config", ["dataset=mnist", "steps=100", *options])))


def test_nothing_is_said_of_a_constant_run():
    assert line() == []


def test_what_changes():
    (found,) = line(
        "schedule=cosine", "average=ema", "growth.shares=[0.25,0.5]", "growth.batch=[64,128]"
    )
    assert found.split(maxsplit=1)[1] == (
        "rates cosine; batch 64 until step 25, 128 until step 75; moving average (0.99) of all "
        "steps, which is validated and kept"
    )
    (found,) = line("growth.shares=[0.1]", "growth.networks=[2]", "growth.width=[32]")
    assert "networks 2 until step 10; width 32 until step 10" in found and "rates" not in found
