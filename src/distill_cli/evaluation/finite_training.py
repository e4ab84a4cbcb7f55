"""Training a wide network on a coreset.

RFAD's protocol, as in the authors' program (yolky/RFAD, commit c9ef03e). With theta_0 the initial
weights, g(x) = f_theta(x) - f_theta_0(x) and label scale s:

    loss = mean_{i,c} (g(x_i)_c - s y_ic)^2 / s^2 + weight_decay * sum (theta - theta_0)^2
    v <- momentum v + grad loss;  theta <- theta - learning_rate v

Without centring g = f_theta and the decay pulls towards 0. Test accuracy is that of the weights
with the best validation accuracy.
The authors' program forgets the label scale for more than 513 images; here it always applies.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from distill_cli.arch.layers import Architecture
from distill_cli.arch.network import (
    Network,
    Params,
    initialise,
    micro_batch,
    network,
    predict,
    with_width,
)
from distill_cli.core.keys import named_key, step_key
from distill_cli.core.types import Coreset
from distill_cli.evaluation.by_class import share_correct
from distill_cli.evaluation.finite_table import FiniteConfig

Progress = Callable[[str, float], None]  # (what is going on, fraction done in [0, 1])


class Record(NamedTuple):
    """One validation."""

    step: int
    loss: float
    valid_accuracy: float


class Trained(NamedTuple):
    """A trained network: the weights best on validation, and how they came about."""

    network: Network
    params: Params
    initial: Params
    best_step: int
    best_accuracy: float
    steps: int
    history: list[Record]
    warning: str | None


class _State(NamedTuple):
    params: Params
    velocity: Params


class _Problem(NamedTuple):
    """What stays the same over the steps: data, origin of the decay, scalars (float32)."""

    images: Float[Array, "coreset height width channel"]
    targets: Float[Array, "coreset class"]
    offset: Float[Array, "coreset class"]  # f_theta0 where centred, else 0
    origin: Params  # theta_0 where centred, else 0
    learning_rate: Float[Array, ""]
    label_scale: Float[Array, ""]
    weight_decay: Float[Array, ""]
    momentum: Float[Array, ""]


def train_finite(
    config: FiniteConfig,
    architecture: Architecture,
    coreset: Coreset,
    valid_images: Float[np.ndarray, "v height width channel"],
    valid_labels: Int[np.ndarray, " v"],
    key: Array,
    progress: Progress | None = None,
) -> Trained:
    """Trains one network; learning_rate, label_scale and weight_decay must not be None.

    Validates every config.validate_every steps and after the last one, keeps the first best, and
    stops config.patience steps after it. A loss or weight that is not finite ends the training
    with a warning; the weights best so far are kept, the initial ones if there are none.
    """
    net = network(with_width(architecture, config.width), int(coreset.labels.shape[1]))
    init_key, batch_key = jax.random.split(key)
    initial = initialise(net, init_key, coreset.images[:1])
    problem = _problem(config, net, initial, coreset)
    untrained = predict(net, initial, valid_images)
    shift = untrained if config.centred else np.zeros_like(untrained)
    state = _State(_copy(initial), jax.tree.map(jnp.zeros_like, initial))

    best_step, best = 0, initial
    best_accuracy = share_correct((untrained - shift).argmax(-1), valid_labels)
    history: list[Record] = []
    warning = None
    step, start = 0, time.monotonic()
    # Short scans between validations too, so that progress and Ctrl-C come through.
    piece = math.gcd(config.validate_every, 10)
    while step < config.max_steps and (step - best_step < config.patience or not history):
        length = min(piece, config.max_steps - step)
        state, losses, finite = _run(
            net, state, problem, batch_key, step, config.loss, length, config.batch
        )
        step += length
        if not bool(finite):
            warning = (
                f"loss or weights not finite within {step} steps at learning rate "
                f"{config.learning_rate:g}; stopped, weights of step {best_step} kept"
            )
            break
        loss = float(losses[-1])
        if step % config.validate_every == 0 or step == config.max_steps:
            outputs = predict(net, state.params, valid_images) - shift
            accuracy = share_correct(outputs.argmax(-1), valid_labels)
            history.append(Record(step, loss, accuracy))
            if len(history) == 1 or accuracy > best_accuracy:
                best_step, best_accuracy, best = step, accuracy, _copy(state.params)
        if progress is not None:
            left = (time.monotonic() - start) / step * (config.max_steps - step)
            message = f"step {step}/{config.max_steps}, loss {loss:.4g}"
            if history:
                message += f", best validation {100 * best_accuracy:.2f} % at {best_step}"
            progress(f"{message}, at most {left / 60:.1f} min left", step / config.max_steps)
    return Trained(net, best, initial, best_step, best_accuracy, step, history, warning)


def network_key(seed: int, index: int) -> Array:
    """Key of the index-th network of a seed: all randomness of its training."""
    return step_key(named_key(seed, "finite"), index)


@partial(jax.jit, static_argnums=(0, 5, 6, 7), donate_argnums=1)
def _run(
    net: Network,
    state: _State,
    problem: _Problem,
    key: Array,
    start: int,
    loss: str,
    length: int,
    batch: int,
) -> tuple[_State, Float[Array, " length"], Array]:
    """`length` steps of SGD from step number `start`; whether all of it stayed finite."""
    images = problem.images.shape[0]
    size = min(images, batch)
    height, width, channel = problem.images.shape[1:]
    micro = micro_batch(net.architecture, (height, width, channel), training=True)
    chunks = math.ceil(size / micro)
    micro = math.ceil(size / chunks)
    fill = chunks * micro - size
    weights = jnp.pad(jnp.full(size, 1 / size, jnp.float32), (0, fill)).reshape(chunks, micro)

    def decay(params: Params) -> Array:
        squares = jax.tree.map(lambda p, o: jnp.sum((p - o) ** 2), params, problem.origin)
        return problem.weight_decay * sum(jax.tree.leaves(squares))

    def fit(params: Params, rows: Array, weight: Array) -> Array:
        f: Any = net.apply(params, problem.images[rows])
        g = f - problem.offset[rows]
        y = problem.targets[rows]
        if loss == "mse":
            each = jnp.mean((g - problem.label_scale * y) ** 2, -1) / problem.label_scale**2
        else:
            each = -jnp.sum(y * jax.nn.log_softmax(g), -1)
        return jnp.sum(weight * each)

    def one(state: _State, index: Array) -> tuple[_State, Array]:
        if images > batch:
            rows = jax.random.randint(jax.random.fold_in(key, index), (size,), 0, images, "int32")
        else:
            rows = jnp.arange(images, dtype="int32")

        def add(total: Any, part: tuple[Array, Array]) -> tuple[Any, None]:
            new = jax.value_and_grad(fit)(state.params, *part)
            return jax.tree.map(jnp.add, total, new), None

        parts = jnp.pad(rows, (0, fill)).reshape(chunks, micro), weights
        (value, grad), _ = jax.lax.scan(add, jax.value_and_grad(decay)(state.params), parts)
        velocity = jax.tree.map(lambda v, g: problem.momentum * v + g, state.velocity, grad)
        params = jax.tree.map(lambda p, v: p - problem.learning_rate * v, state.params, velocity)
        return _State(params, velocity), value

    steps = jnp.asarray(start, "int32") + jnp.arange(length, dtype="int32")
    state, losses = jax.lax.scan(one, state, steps)
    finite = [jnp.isfinite(leaf).all() for leaf in (losses, *jax.tree.leaves(state.params))]
    return state, losses, jnp.stack(finite).all()


def _problem(config: FiniteConfig, net: Network, initial: Params, coreset: Coreset) -> _Problem:
    scalars = (config.learning_rate, config.label_scale, config.weight_decay, config.momentum)
    if None in scalars:
        raise ValueError("learning_rate, label_scale and weight_decay must be set: see with_tuned")
    targets = jnp.asarray(coreset.labels, jnp.float32)
    if config.loss == "cross_entropy":
        targets = jax.nn.one_hot(targets.argmax(-1), targets.shape[1], dtype=jnp.float32)
    offset, origin = jnp.zeros_like(targets), jax.tree.map(jnp.zeros_like, initial)
    if config.centred:
        offset, origin = jnp.asarray(predict(net, initial, np.asarray(coreset.images))), initial
    images = jnp.asarray(coreset.images, jnp.float32)
    return _Problem(images, targets, offset, origin, *(jnp.float32(s) for s in scalars))


def _copy(tree: Params) -> Params:
    """Arrays of its own: the state given to _run is donated."""
    return jax.tree.map(jnp.copy, tree)
