"""init=forgetting: images that a network in training learns and forgets most often.

A network is trained on the training split for some epochs; an image is forgotten when it was
classified correctly at one visit and wrongly at the next. The images with the most such events are
taken, those never classified correctly before all others (Toneva et al. 2019, who count them as
forgotten infinitely often; some later programs give them 0).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from distill_cli.arch.network import Network, initialise, network, with_width
from distill_cli.config import at_least, within
from distill_cli.core.keys import named_key
from distill_cli.core.losses import at_label
from distill_cli.init.base import Initial, Request
from distill_cli.init.selection import chosen, groups


@dataclass(frozen=True)
class Config:
    """width: channels of the network, otherwise the run's; epochs; batch; learning_rate, momentum:
    of SGD on the cross-entropy; candidates: most images of a class that take part (a larger class
    is thinned at random); balanced: ipc images of every class, or classes * ipc of any class."""

    name: str = "forgetting"
    width: int = 32
    epochs: int = 10
    batch: int = 128
    learning_rate: float = 0.02
    momentum: float = 0.9
    candidates: int = 1000
    balanced: bool = True

    def __post_init__(self) -> None:
        for key in ("width", "batch", "candidates"):
            at_least(f"init.{key}", getattr(self, key), 1)
        at_least("init.epochs", self.epochs, 2)
        at_least("init.learning_rate", self.learning_rate, 0)
        within("init.momentum", self.momentum, 0, 1)


def scores(history: Bool[np.ndarray, "epoch n"]) -> np.ndarray:
    """Forgetting events of each image, int64 (n,); as many as epochs where it was never learned.

    history[e, i]: whether image i was classified correctly at its visit of epoch e. Events number
    at most half the epochs, so that images never learned stand above all others.
    """
    events = (history[:-1] & ~history[1:]).sum(0)
    return np.where(history.any(0), events, len(history))


def initial(config: Config, request: Request) -> Initial:
    """The most forgotten images; ties are broken at random."""
    at_least("init.candidates", config.candidates, request.ipc)
    generator = request.generator("init")
    members = []
    for label in range(request.classes):
        rows = request.rows(label)
        if rows.size > config.candidates:
            rows = generator.choice(rows, config.candidates, replace=False)
        members.append(rows)
    rows = np.sort(np.concatenate(members))
    net = network(with_width(request.architecture, config.width), request.classes)
    images = jnp.asarray(np.asarray(request.images[rows], np.float32))
    labels = jnp.asarray(request.labels[rows], jnp.int32)
    key = named_key(request.seed, f"init/{config.name}")
    found = np.full(len(request.labels), -1)  # -1: took no part
    found[rows] = scores(np.asarray(learn(net, config, images, labels, key)))
    order = generator.permutation(len(found))
    ranked = order[np.argsort(-found[order], kind="stable")]
    picks = [
        ranked[np.isin(ranked, group)][:count] for group, count in groups(request, config.balanced)
    ]
    record = {
        "scores": found,
        "never_learned": int((found == config.epochs).sum()),
        "never_forgotten": int((found == 0).sum()),
    }
    return chosen(request, np.concatenate(picks), config.balanced, record)


@partial(jax.jit, static_argnums=(0, 1))
def learn(
    net: Network, config: Config, images: Array, labels: Array, key: Array
) -> Bool[Array, "epoch n"]:
    """Train; whether each image was right at its one visit of each epoch, before that update."""
    count = len(labels)
    size = min(config.batch, count)
    steps = -(-count // size)
    start_key, order_key = jax.random.split(key)
    params = initialise(net, start_key, images[:1])

    def loss(params: Any, rows: Array) -> tuple[Array, Array]:
        outputs: Any = net.apply(params, images[rows])  # places beyond the end read the last image
        target = labels[rows]
        each = -at_label(jax.nn.log_softmax(outputs), target)
        inside = rows < count
        right = jnp.argmax(outputs, -1) == target
        return jnp.where(inside, each, 0).sum() / inside.sum(), right

    def visit(state: Any, rows: Array) -> tuple[Any, None]:
        params, velocity, correct = state
        gradient, right = jax.grad(loss, has_aux=True)(params, rows)
        velocity = jax.tree.map(lambda v, g: config.momentum * v + g, velocity, gradient)
        params = jax.tree.map(lambda p, v: p - config.learning_rate * v, params, velocity)
        return (params, velocity, correct.at[rows].set(right, mode="drop")), None

    def epoch(state: Any, number: Array) -> tuple[Any, Array]:
        order = jax.random.permutation(jax.random.fold_in(order_key, number), count)
        padded = jnp.pad(order, (0, steps * size - count), constant_values=count)
        state, _ = jax.lax.scan(visit, state, padded.reshape(steps, size))
        return state, state[2]

    start = (params, jax.tree.map(jnp.zeros_like, params), jnp.zeros(count, bool))
    return jax.lax.scan(epoch, start, jnp.arange(config.epochs))[1]
