"""What a run says before it starts: time, and what makes it shorter."""

import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.report.words import duration
from distill_cli.tasks import plan


def test_the_estimate_is_half_the_rate_of_products(monkeypatch):
    monkeypatch.setattr(plan, "matmul_gflops", lambda: 400.0)
    seconds = plan.estimated_seconds(20e12)
    assert seconds == pytest.approx(100)
    assert plan.pace(seconds, 100_000) == " (roughly 1 min 40 s, 116 days in all)"
    assert plan.estimated_seconds(0.0) is None
    assert plan.pace(None, 10) == ""


def test_no_estimate_on_an_accelerator(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert plan.estimated_seconds(20e12) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=cifar10"], "hardware=cpu is made for half an hour"),
        (["dataset=svhn"], "hardware=cpu and fewer steps="),
        (["dataset=cifar10", "hardware=cpu"], "fewer steps="),
    ],
)
def test_what_is_shorter(words, said):
    assert plan.shorter(parse(compose("config", words))).startswith(said)


def test_a_long_run_is_called_long(command, monkeypatch):
    words = ("steps=2", "architecture.width=8", "kernel.networks=2", "batch.size=64",
             "validation.networks=2", "evaluation=none", "progress=plain")  # fmt: skip
    done = command("distill", *words)
    assert "GFLOP each (roughly " in done.out
    assert "  long " not in done.out
    monkeypatch.setattr(plan, "LONG", 0.0)
    done = command("distill", *words, "seed=1")
    assert "  long     hardware=cpu and fewer steps= take less" in done.out
    assert "begins in" not in done.out  # only on a terminal


def test_days():
    assert duration(46 * 86400) == "46 days"
    assert duration(47 * 3600) == "47 h 00 min"
