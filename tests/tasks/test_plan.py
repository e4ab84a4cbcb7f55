"""What a run says before it starts: time, and what makes it shorter."""

import numpy as np
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["architecture.width=1000000000", "kernel.networks=2"], "lower architecture.width"),
        (["dataset=npz", "dataset.path={big}", "dataset.name=big", "preprocess.zca=0.1",
          "architecture.depth=2"], "preprocess.zca=null leaves it out"),
        (["dataset=npz", "dataset.path={big}", "dataset.name=big", "architecture.depth=2"],
         "method.transform=false saves the pixel matrix's"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_refused(command, tmp_path, words, said):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 400, 400, 3), dtype=np.uint8)
    np.savez(tmp_path / "big.npz", x_train=images, y_train=np.arange(12) % 2)
    words = [word.format(big=tmp_path / "big.npz") for word in words]
    done = command("distill", *words, "validation.per_class=2", "evaluation=none", "progress=none")
    assert done.code == 2
    (line,) = (line for line in done.err.splitlines() if not line.startswith("WARNING"))
    assert said in line
    assert "GiB, and this machine has" in line
    assert not list(tmp_path.rglob("result.json"))
    assert not list((tmp_path / "outputs").iterdir())


def test_a_batch_larger_than_the_data_fits(command):
    done = command("distill", "batch.size=1000000000000", "steps=2", "architecture.width=8",
                   "kernel.networks=2", "validation.networks=2", "evaluation=none")  # fmt: skip
    assert done.code == 0, done.err


def test_long_whitening_is_announced(caplog):
    from distill_cli.data import preprocess

    preprocess.expect((96, 96, 3), 96 * 96 * 3)
    assert "whitening 96x96x3 images takes roughly 14 min" in caplog.text
    caplog.clear()
    preprocess.expect((32, 32, 3), 3072)
    assert not caplog.text


def test_numpys_memory_error_is_one_line():
    from distill_cli.cli.errors import device_memory, in_gib
    from distill_cli.errors import RunStopped

    with (
        pytest.raises(RunStopped, match="memory is too small: Unable to allocate"),
        device_memory(),
    ):
        np.zeros((1 << 24, 1 << 24))
    assert in_gib("181269430272 bytes") == "168.8 GiB"
    assert in_gib("3.5GiB") == "3.5GiB"
