"""Training networks on a coreset: the loop that the dc, dsa, frepo and kip_finite protocols share.

A `Recipe` says what one protocol does, in plain values, so that equal recipes share a compilation.
Randomness of a step depends on (network key, step) alone. Nothing here sees validation or test
images: there is no early stopping, the weights after the last step are the result.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from distill_cli.augment import dc, dsa, frepo
from distill_cli.evaluation.batching import Batching, rows_of_step
from distill_cli.evaluation.optimiser import Optimiser
from distill_cli.evaluation.sizes import micro_batch
from distill_cli.kernels.micro_batches import cut, micro_pieces

Variables = dict[str, Any]
Progress = Callable[[str, float], None]

AUGMENTATIONS: dict[str, Callable[[Array, Array, str], Array]] = {
    "dc": dc.augment,
    "dsa": dsa.augment,
    "frepo": frepo.augment,
}
PIECE_SECONDS = 2.0  # between progress reports


@dataclass(frozen=True)
class Recipe:
    """One protocol's training.

    loss per image, f the logits and y the targets (class,):
        cross_entropy  -log softmax(f)[argmax y]
        squared        1/2 sum_c (f - y)^2
        mean_squared   1/2 mean_c (f - y)^2
    augmentation: (family, strategy), family a key of AUGMENTATIONS; None: none.
    """

    loss: Literal["cross_entropy", "squared", "mean_squared"]
    steps: int
    batching: Batching
    optimiser: Optimiser
    augmentation: tuple[str, str] | None = None


class State(NamedTuple):
    """variables: {"params"} and, with batch norm, {"batch_stats"}; moments of the optimiser;
    loss of the last step."""

    variables: Variables
    moments: Any
    loss: Array


class Trained(NamedTuple):
    """One network after its last step; finite: whether loss and weights are all finite."""

    variables: Variables
    loss: float
    finite: bool


def train(
    net: nn.Module,
    recipe: Recipe,
    images: Float[np.ndarray, "n height width channel"],
    targets: Float[np.ndarray, "n class"],
    variables: Variables,
    key: Array,
    rate: float,
    progress: Progress = lambda what, fraction: None,
) -> Trained:
    """One network from its initial variables, with its key and learning rate.

    Several networks are several calls, on several devices at once (core/sharing.py). Side by side
    in one program (vmap) their convolutions would be grouped ones: 2 to 9 times slower on a CPU; on
    a GPU fewer launches, but more traffic to memory than one after another.
    """
    state = State(variables, recipe.optimiser.start(variables["params"]), jnp.float32(jnp.inf))
    state = jax.tree.map(jnp.copy, state)  # _run takes the arrays over
    data = jnp.asarray(images, jnp.float32), jnp.asarray(targets, jnp.float32)
    share = jnp.float32(rate)
    step, length = 0, 1
    while step < recipe.steps:
        clock = time.monotonic()
        stop = min(step + length, recipe.steps)
        state = _run(net, recipe, state, data, key, share, np.int32(step), np.int32(stop))
        loss = float(state.loss)
        seconds = max(time.monotonic() - clock, 1e-3)
        if step:  # the first piece contains the compilation
            length = max(1, min(8 * length, int(length * PIECE_SECONDS / seconds)))
        step = stop
        progress(f"step {step}/{recipe.steps}, loss {loss:.4g}", step / recipe.steps)
        if not math.isfinite(loss):
            break
    return _trained(state)


def _trained(state: State) -> Trained:
    leaves = [state.loss, *jax.tree.leaves(state.variables)]
    finite = all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
    return Trained(state.variables, float(state.loss), finite)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _run(
    net: nn.Module, recipe: Recipe, state: State, data: Any, key: Array, rate: Array,
    start: Any, stop: Any,
) -> State:  # fmt: skip
    """Steps start .. stop-1; the bounds are traced, so one compilation serves every length."""

    return jax.lax.fori_loop(
        start, stop, lambda i, s: train_step(net, recipe, data, key, rate, i, s), state
    )


def train_step(
    net: nn.Module, recipe: Recipe, data: tuple[Array, Array], key: Array, rate: Array, step: Array,
    state: State,
) -> State:  # fmt: skip
    """One update. Gradients are summed over micro-batches that fit the cache (not with batch norm,
    whose statistics belong to the whole batch)."""
    images, targets = data
    row_key, augment_key = jax.random.split(key)
    rows, weights = rows_of_step(recipe.batching, row_key, step, images.shape[0])
    x, y = images[rows], targets[rows]
    if recipe.augmentation is not None:
        family, strategy = recipe.augmentation
        x = AUGMENTATIONS[family](jax.random.fold_in(augment_key, step), x, strategy)
    params = state.variables["params"]
    statistics = {k: v for k, v in state.variables.items() if k != "params"}

    def objective(params: Any, x: Array, y: Array, w: Array) -> tuple[Array, Any]:
        f, new = net.apply({"params": params, **statistics}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(w * loss_per_image(recipe.loss, f, y)), new

    grad = jax.value_and_grad(objective, has_aux=True)
    size = rows.shape[0]
    micro = size if statistics else micro_batch(net, images.shape[1:], training=True)
    chunks, micro = micro_pieces(size, micro)
    if chunks == 1:
        (value, new), gradient = grad(params, x, y, weights)
    else:
        new = {}
        # What is filled up has weight 0.
        parts = tuple(cut(part, chunks, micro) for part in (x, y, weights))

        def add(total: Any, part: Any) -> tuple[Any, None]:
            (value, _), gradient = grad(params, *part)
            return jax.tree.map(jnp.add, total, (value, gradient)), None

        zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
        (value, gradient), _ = jax.lax.scan(add, zero, parts)
    share = rate * recipe.optimiser.schedule(step, recipe.steps)
    params, moments = recipe.optimiser.update(gradient, state.moments, params, step, share)
    return State({"params": params, **new}, moments, value)


def loss_per_image(
    name: str, f: Float[Array, "n class"], y: Float[Array, "n class"]
) -> Float[Array, " n"]:
    """The losses of Recipe."""
    if name == "cross_entropy":
        picked = jax.nn.one_hot(jnp.argmax(y, -1), y.shape[-1], dtype=f.dtype)
        return -jnp.sum(picked * jax.nn.log_softmax(f), -1)
    squares = 0.5 * (f - y) ** 2
    return jnp.sum(squares, -1) if name == "squared" else jnp.mean(squares, -1)


def predicted_classes(
    net: nn.Module, variables: Variables, images: Float[np.ndarray, "n height width channel"]
) -> Int[np.ndarray, " n"]:
    """The class of the largest output of each host image, computed in micro-batches."""
    size = min(len(images), micro_batch(net, images.shape[1:]))
    guesses = []
    for first in range(0, len(images), size):
        part = np.asarray(images[first : first + size], np.float32)
        padded = np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0)))
        guesses.append(np.asarray(_guess(net, variables, padded))[: len(part)])
    return np.concatenate(guesses)


@partial(jax.jit, static_argnums=0)
def _guess(net: nn.Module, variables: Variables, images: Array) -> Array:
    return jnp.argmax(net.apply(variables, images, train=False), -1)  # type: ignore[arg-type]
