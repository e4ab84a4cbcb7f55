"""KIP and Label Solve: finite differences, closed forms, and what their settings do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import fully_connected
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.methods.base import Setting, make_distiller, steps_of

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(1)


def make(*options: str, whitened: bool = False):
    config = parse(compose("config", ["kernel.precision=float64", *options]))
    return make_distiller(Setting(config, fully_connected(1, 1), SHAPE, 3, 4, whitened))


def start(n: int = 6) -> Coreset:
    images = jnp.asarray(RNG.normal(size=(n, *SHAPE)))
    return Coreset(images, one_hot_centred(jnp.arange(n) % 3, 3), jnp.zeros((), jnp.float64))


def batch(n: int = 20) -> Batch:
    images = jnp.asarray(RNG.normal(size=(n, *SHAPE)))
    return Batch(images, jnp.arange(n, dtype=jnp.int32) % 3, jnp.ones(n, jnp.float32))


def objective(method, coreset: Coreset, target: Batch, ridge: float):
    """The loss of the docstring, written out with the method's kernel only."""
    gram = method.kernels[0].gram
    k_ss = gram(coreset.images)
    regular = k_ss + ridge * jnp.trace(k_ss) / len(k_ss) * jnp.eye(len(k_ss))
    f = gram(target.images, coreset.images) @ jnp.linalg.solve(regular, coreset.labels)
    return 0.5 * jnp.mean((f - one_hot_centred(target.labels, 3)) ** 2)


def test_first_step_is_adam_on_the_gradient_by_finite_differences():
    method = make("method=kip", "labels=learned", "method.ridge=1e-3", "method.learning_rate=0.1")
    coreset, target = start(), batch()
    state = method.init(jax.random.key(0), coreset)
    after, info = jax.jit(method.step)(state, target, jax.random.key(1))
    expected = objective(method, coreset, target, 1e-3)
    np.testing.assert_allclose(info["loss"], expected, rtol=1e-6)
    for name in ("images", "labels"):
        part = getattr(coreset, name)
        for place in [(0,) * part.ndim, (3,) + (1,) * (part.ndim - 2) + (0,)]:
            bump = jnp.zeros_like(part).at[place].set(1e-5 if name == "images" else 1e-3)
            up, down = (coreset._replace(**{name: part + s * bump}) for s in (1, -1))
            slope = objective(method, up, target, 1e-3) - objective(method, down, target, 1e-3)
            # Adam's first step is the learning rate times the sign of the gradient.
            moved = after.params[name][place] - part[place]
            assert float(moved) == pytest.approx(-0.1 * float(jnp.sign(slope)), rel=1e-3)


def test_steps_lower_the_loss_and_fixed_labels_stay():
    method = make("method=kip", "method.learning_rate=0.05")
    coreset, target = start(), batch()
    state, losses = method.init(jax.random.key(0), coreset), []
    step = jax.jit(method.step)
    for index in range(60):
        state, info = step(state, target, jax.random.key(index))
        losses.append(float(info["loss"]))
    assert np.all(np.diff(losses[:20]) < 0) and losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(method.coreset(state).labels, coreset.labels)


def test_frozen_pixels_stay_and_the_others_move():
    method = make("method=kip", "method.corruption=0.5")
    coreset = start()
    state = method.init(jax.random.key(0), coreset)
    mask = np.asarray(state.frozen[1])
    assert 0.3 < mask.mean() < 0.7
    for index in range(3):
        state, _ = method.step(state, batch(), jax.random.key(index))
    moved = np.asarray(method.coreset(state).images != coreset.images)
    assert not moved[mask].any()
    assert moved[~mask].mean() > 0.9
    with pytest.raises(UserError, match=r"method.corruption=0.5.*preprocess.zca=null"):
        make("method=kip", "method.corruption=0.5", whitened=True)


def test_augmentation_changes_the_targets_of_a_share_of_the_batch():
    coreset, target = start(), batch()
    losses = [
        float(
            method.step(method.init(jax.random.key(0), coreset), target, jax.random.key(1))[1][
                "loss"
            ]
        )
        for share in (0.0, 0.5, 1.0)
        for method in [
            make("method=kip", f"method.augmentation.share={share}", "method.ridge=1e-3")
        ]
    ]
    plain = make("method=kip", "method.ridge=1e-3")
    assert losses[0] == pytest.approx(float(objective(plain, coreset, target, 1e-3)), rel=1e-6)
    assert len(set(losses)) == 3
    with pytest.raises(UserError, match=r"augmentation.share=2"):
        make("method=kip", "method.augmentation.share=2")


def test_sampled_kernels_take_turns():
    method = make("method=kip", "method.kernels=[fc1,fc2]", "method.ridge=1e-3")
    coreset, target = start(), batch()
    losses = {
        round(
            float(method.step(method.init(jax.random.key(0), coreset), target, key)[1]["loss"]), 9
        )
        for key in jax.random.split(jax.random.key(3), 12)
    }
    each = [
        round(float(objective(dataclasses.replace(method, kernels=(k,)), coreset, target, 1e-3)), 9)
        for k in method.kernels
    ]
    assert losses == set(each)
    scores = method.validator(jax.random.key(0), target.images, target.labels)(coreset)
    assert float(scores["valid_loss"]) == pytest.approx(np.mean(each), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["method=kip", "method.kernels=[resnet]"], "method.kernels=resnet"),
        (["method=kip", "method.ridge=0"], "method.ridge=0"),
        (["method=kip", "kernel.precision=float16"], "kernel.precision=float16"),
        (["method=label_solve", "sampler=uniform"], "needs sampler=sequential"),
        (["method=label_solve", "method.regularisation=0"], "method.regularisation=0"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(UserError) as error:
        make(*options)
    assert message in str(error.value)


def solved_labels(method, coreset: Coreset, target: Batch, pieces: int):
    state = method.init(jax.random.key(0), coreset)
    for part in range(pieces):
        piece = Batch(*(x[part::pieces] for x in target))
        state, _ = jax.jit(method.step)(state, piece, jax.random.key(0))
    return method.coreset(state).labels


def test_label_solve_is_the_least_squares_solution_however_the_set_is_cut():
    method = make("method=label_solve", "method.ridge=1e-9", "method.regularisation=1e-12")
    coreset, target = start(), batch(30)
    labels = solved_labels(method, coreset, target, 1)
    k_ss = method.kernel.gram(coreset.images)
    k_ts = method.kernel.gram(target.images, coreset.images)
    design = np.asarray(k_ts) @ np.linalg.inv(np.asarray(k_ss))
    best, *_ = np.linalg.lstsq(design, np.asarray(one_hot_centred(target.labels, 3)), rcond=None)
    np.testing.assert_allclose(labels, best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(solved_labels(method, coreset, target, 3), labels, rtol=1e-4)

    def error(y):
        f = krr_predict(k_ts, krr_solve(k_ss, y, 1e-9))
        return float(jnp.mean((f - one_hot_centred(target.labels, 3)) ** 2))

    nearby = np.random.default_rng(0).normal(size=labels.shape) * 1e-2
    assert error(labels) < min(error(coreset.labels), error(labels + nearby))


def test_label_solve_ends_after_one_pass():
    method = make("method=label_solve")
    assert steps_of(method, 1000, 45, 10) == 5
    assert steps_of(method, 3, 45, 10) == 3
    assert steps_of(make("method=kip"), 1000, 45, 10) == 1000
    state = method.init(jax.random.key(0), start())
    np.testing.assert_array_equal(method.coreset(state).labels, start().labels)
    padded = batch(4)._replace(weights=jnp.array([1.0, 1.0, 0.0, 0.0]))
    one, _ = method.step(state, padded, jax.random.key(0))
    two, _ = method.step(state, Batch(*(x[:2] for x in padded)), jax.random.key(0))
    np.testing.assert_allclose(one.products, two.products, rtol=1e-12)
    assert int(one.seen) == int(two.seen) == 2
