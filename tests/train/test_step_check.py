"""A method that breaks its contract is told so before the first step, in one line."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from distill_cli.methods import random as plain
from distill_cli.methods import rfad
from distill_cli.train.step_check import wrong_info, wrong_result
from tiny import TINY

ZERO = jnp.zeros((), jnp.float32)
INFO = {"loss": ZERO, "accuracy": ZERO}


def float64_labels(state, batch, key):
    """Where 64 bits are on, jnp.eye without dtype is float64."""
    soft = jnp.eye(state.labels.shape[1])[state.labels.argmax(1)]
    return state._replace(labels=0.5 * (state.labels + soft)), INFO


def fewer_images(state, batch, key):
    return state._replace(images=state.images[1:]), INFO


def other_structure(state, batch, key):
    return (state, batch.images), INFO


def no_info(state, batch, key):
    return state


def vector(state, batch, key):
    return state, {**INFO, "norms": jnp.zeros(10)}


def no_accuracy(state, batch, key):
    return state, {"loss": ZERO}


def no_loss(state, batch, key):
    return state, {"accuracy": ZERO}


def own_mistake(state, batch, key):
    raise AttributeError("what the author did wrong")


@pytest.fixture
def with_step(monkeypatch, tmp_path: Path):
    """with_step(step): method=rfad makes this step; returns the list of calls."""

    def install(step) -> list[int]:
        calls: list[int] = []

        class Broken(plain.Random):
            def step(self, state, batch, key):
                calls.append(1)
                return step(state, batch, key)

            def steps(self, wanted, images, batch):
                return wanted

            def validator(self, key, images, labels):
                calls.append(1000)
                return super().validator(key, images, labels)

        monkeypatch.setattr(rfad, "make", Broken)
        return calls

    return install


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            float64_labels,
            "step() changes state.labels from float32 (10, 10) to float64 (10, 10)",
        ),
        (fewer_images, "step() changes state.images from float32 (10, 8, 8, 1) to float32 (9, "),
        (other_structure, "the state that step() returns lacks .images"),
        (no_info, "step() returns Coreset; it has to return (state, info)"),
        (vector, "info['norms'] of step() has shape (10,); it has to be a scalar"),
        (no_accuracy, "info of step() lacks accuracy"),
        (no_loss, "info of step() lacks loss"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(command, with_step, step, said):
    calls = with_step(step)
    done = command("distill", *TINY, "evaluation=none")
    assert done.code == 2
    assert done.err.startswith(f"error: method=rfad: {said}"), done.err
    assert done.err.count("\n") == 1
    assert 1000 not in calls  # nothing was validated


def test_a_sound_step_is_traced_once(command, with_step):
    calls = with_step(lambda state, batch, key: (state, INFO))
    words = (*TINY, "evaluation=none", "validation.every=20")
    assert command("distill", *words).code == 0
    assert calls.count(1) == 1


def test_mistakes_inside_a_step_are_not_hidden(command, with_step):
    with_step(own_mistake)
    with pytest.raises(AttributeError, match="what the author did wrong"):
        command("distill", *TINY, "evaluation=none")


def test_nested_states_and_keys():
    state = {"params": {"w": jnp.zeros(3, jnp.float32)}, "key": jax.random.key(0)}
    assert wrong_result(state, (state, INFO)) is None
    other = {**state, "params": {"w": jnp.zeros(3, jnp.int32)}}
    said = wrong_result(state, (other, INFO))
    assert said is not None and "state['params']['w'] from float32 (3,) to int32 (3,)" in said
    more = {**state, "extra": jnp.zeros(1)}
    assert "adds ['extra']" in str(wrong_result(state, (more, INFO)))
    assert wrong_result(state, (state, [1])) == (
        "step() returns list as info; it has to be a dict of scalars"
    )
    assert wrong_info({"loss": (), "accuracy": (), "x": ()}) is None
