"""What is shown while a run goes on: a step's line carries the validation of that same step."""

import re

import pytest

from distill_cli.train.progress import Live, Plain

LINE = re.compile(r"step (\d+)/\d+ .*validation [\d.]+ \(best step (\d+)\)")


def test_a_line_shows_the_validation_of_its_own_step(command) -> None:
    """keep=last: the best step is the last one that was validated, so both numbers agree."""
    done = command(
        "distill", "steps=20", "validation.every=10", "validation.keep=last", "evaluation=none",
        "architecture.width=4", "kernel.networks=1", "validation.networks=1", "batch.size=16",
        "progress=plain",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = [tuple(map(int, match)) for match in LINE.findall(done.out)]
    assert found[-1] == (20, 20)
    assert all(step == best for step, best in found)


@pytest.mark.parametrize("kind", [Plain, Live])
def test_validation_then_step(kind, capsys) -> None:
    shown = kind(40)
    shown.validated(0, {"valid_accuracy": 0.1}, 0)
    shown.validated(40, {"valid_accuracy": 0.75}, 40)
    shown.stepped(40, {"loss": 1.0, "accuracy": 0.5})
    shown.close()
    assert "validation 0.7500" in capsys.readouterr().out
