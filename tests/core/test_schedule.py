"""Rates over a run, against the formulas in NumPy, and what they do to the methods' updates."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.schedule import Schedule
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.methods.base import Setting, make_distiller

SHAPE = (6, 6, 1)


def factors(schedule: Schedule, steps: int) -> np.ndarray:
    """What a rate of 1 is at each step."""
    rate = schedule(1.0)
    return np.asarray(jax.vmap(rate)(jnp.arange(steps))) if callable(rate) else np.full(steps, rate)


def expected(name: str, steps: int, warmup: float, final: float) -> np.ndarray:
    t = np.arange(steps)
    if name == "constant":
        return np.ones(steps)
    rise = round(warmup * steps) if name == "warmup_cosine" else 0
    falling = (t - rise) / (steps - rise)
    cosine = final + (1 - final) * (1 + np.cos(math.pi * falling)) / 2
    rising = 1 / rise + (1 - 1 / rise) * t / rise if rise else t
    return np.where(t < rise, rising, cosine)


@pytest.mark.parametrize("name", ["constant", "cosine", "warmup_cosine"])
def test_factors(name):
    for steps, warmup, final in [(200, 0.05, 0.01), (37, 0.3, 0.0), (1000, 0.1, 0.5)]:
        schedule = Schedule(name, steps, warmup, final)
        found = factors(schedule, steps)
        np.testing.assert_allclose(found, expected(name, steps, warmup, final), atol=2e-6)


def test_short_runs():
    """A rise of at least one step, never of all of them."""
    assert factors(Schedule("warmup_cosine", 1), 1)[0] == 1
    assert factors(Schedule("warmup_cosine", 2, 1.0), 1)[0] == pytest.approx(1)
    for steps in (2, 3, 5):
        values = factors(Schedule("warmup_cosine", steps), steps)
        assert values.min() > 0 and float(values.max()) == pytest.approx(1)


def test_a_constant_rate_is_the_number_itself():
    assert Schedule()(0.1) == 0.1


def problem():
    rng = np.random.default_rng(0)
    labels = one_hot_centred(jnp.arange(4) // 2, 2)
    images = jnp.asarray(rng.normal(size=(4, *SHAPE)), jnp.float32)
    targets = jnp.asarray(rng.normal(size=(8, *SHAPE)), jnp.float32)
    batch = Batch(targets, jnp.arange(8) % 2, jnp.ones(8, jnp.float32))
    return Coreset(images, labels, jnp.zeros((), jnp.float64)), batch


@pytest.mark.parametrize("name", ["rfad", "kip", "frepo", "dc", "dsa", "dm"])
def test_every_method_takes_its_steps_at_the_schedule(name):
    """The first update with warmup_cosine is 1/w of the first one at a constant rate (of FRePo's
    own cosine, which starts at 1); the labels' too, where they are learned."""
    start, batch = problem()
    labels = "learned" if name in ("rfad", "kip", "frepo") else "fixed"
    own = [f"method={name}", f"labels={labels}", "steps=40", "validation.networks=1"]
    own += ["kernel.networks=2"] if name in ("rfad", "frepo", "dc", "dsa", "dm") else []
    own += ["method.width=4"] if name in ("frepo", "dc", "dsa", "dm") else []
    moved = {}
    for schedule in ("constant", "warmup_cosine"):
        config = parse(compose("config", [*own, f"schedule={schedule}", "schedule_warmup=0.1"]))
        method = make_distiller(Setting(config, convnet(4, 1), SHAPE, 2, 4))
        state, _ = jax.jit(method.step)(
            method.init(jax.random.key(0), start), batch, jax.random.key(1)
        )
        before = method.coreset(method.init(jax.random.key(0), start))
        after = method.coreset(state)
        moved[schedule] = [np.asarray(b - a) for a, b in zip(before, after, strict=True)][:2]
    for slow, full in zip(moved["warmup_cosine"], moved["constant"], strict=True):
        np.testing.assert_allclose(slow, full / 4, rtol=2e-2, atol=2e-6 * np.abs(full).max() + 1e-7)
    assert np.abs(moved["constant"][0]).max() > 0


def test_of_a_configuration():
    config = parse(compose("config", ["schedule=cosine", "steps=7", "schedule_final=0.2"]))
    assert Schedule.of(config) == Schedule("cosine", 7, 0.05, 0.2)
    assert dataclasses.replace(config, schedule="constant").schedule == "constant"
