"""On an accelerator: steps against the CPU backend, runs that repeat and resume bit for bit.

Stage a of scripts/gpu_check.py does the same and records the figures.
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from gpu_stages import runs, steps  # noqa: E402

sys.path.remove(str(SCRIPTS))


@pytest.mark.gpu
@pytest.mark.parametrize("case", steps.CASES, ids=lambda case: case.name)
def test_a_step_agrees_with_the_cpu(case):
    found = steps.compare(case)
    assert found["within"], found


@pytest.mark.gpu
@pytest.mark.process
def test_runs_repeat_and_resume_bit_for_bit_on_the_accelerator(tmp_path):
    end = time.monotonic() + 300
    found = runs.same_bits(tmp_path, lambda: end - time.monotonic())
    assert found["resumed"]
    assert found["repeats_bit_for_bit"] and found["resumes_bit_for_bit"], found


def test_the_first_moment_is_the_gradient():
    """What the comparison reads from the optimiser is (1 - b1) times the gradient of the images."""
    from gpu_stages.problems import cosine, distiller, first_moment, points

    overrides = [*steps.RFAD, "kernel.features=float32", "kernel.fused=false"]
    method, _ = distiller(overrides, steps.SMALL)
    start, batch = points(20, 64, steps.SMALL)
    state = method.init(jax.random.key(0), start)
    after, _ = method.step(state, batch, jax.random.key(1))
    _, gradient = method.shares.spread(method.value_and_grad)(jax.random.key(1), start, batch)
    moment = first_moment(after, start.images)
    np.testing.assert_allclose(moment, 0.1 * gradient.images, rtol=1e-4, atol=1e-9)
    assert cosine(moment, np.asarray(gradient.images)) == pytest.approx(1)


def test_a_wrong_step_is_seen(monkeypatch):
    """Other networks on one side are far outside the bounds of every arithmetic."""
    case = steps.CASES[0]
    real = steps.one_step

    def other(overrides, device, products, shape):
        if products == "highest":  # the CPU's side
            overrides = [*overrides, "architecture.width=16"]
        return real(overrides, device, products, shape)

    monkeypatch.setattr(steps, "one_step", other)
    found = steps.compare(case)
    assert not found["within"]
    assert found["one_minus_cosine"] > 10 * max(one.gradient for one in steps.CASES)
