"""DC: dataset condensation by gradient matching.

Zhao, Mopuri & Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021 (arXiv 2006.05929),
Algorithm 1, in the form of the authors' program (VICO-UoE/DatasetCondensation, commit 53f63a6):

    theta ~ fresh random network                                every `outer` steps
    L  = sum_c D( grad_theta CE(net, S_c), grad_theta CE(net, T_c) )
    S <- S - rate v,   v <- momentum v + grad_S L               one update for all classes
    theta: `inner` epochs of SGD on S                           except after the outer-th step

One step of the method is one image update; the network and its place in the loop are in the state.
Classes have their own images, so they are taken one after another: the same update at the memory of
one class. DSA (dsa.py) is this with augmentation of all images.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.augment import dsa as siamese
from distill_cli.config import at_least
from distill_cli.core.types import Batch, Coreset
from distill_cli.kernels.shares import ALONE, CLASS, Shares, in_a_row
from distill_cli.methods import matching
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.matching import Real, Variables
from distill_cli.nets import Net

# (outer, inner) by images per class; other numbers stop the authors' program.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


ALLOWS = {"labels": ("fixed",), "loss": ("mse",)}  # config.py check_combination


@dataclass(frozen=True)
class Config:
    """DC's parameters.

    network, width, depth, norm: the network that is matched (nets.build; null: its own);
    learning_rate, momentum: SGD on the images; outer: image updates per network, inner: epochs
    between them (null: by ipc, `loops`); network_rate, network_batch: SGD in these epochs;
    distance: rows, cosine or squared (matching.gradient_distance); augmentation: families of
    augment.dsa joined by _, auto or none; ridge: of the validation score.
    """

    name: str = "dc"
    network: str = "convnet"
    width: int | None = None
    depth: int | None = None
    norm: str | None = None
    learning_rate: float = 0.1
    momentum: float = 0.5
    outer: int | None = None
    inner: int | None = None
    network_rate: float = 0.01
    network_batch: int = 256
    distance: str = "rows"
    augmentation: str = "none"
    ridge: float = 5e-3

    def __post_init__(self) -> None:
        matching.check_common(self)
        at_least("method.network_rate", self.network_rate, 0)
        at_least("method.network_batch", self.network_batch, 1)
        if self.outer is not None:
            at_least("method.outer", self.outer, 1)
        if self.inner is not None:
            at_least("method.inner", self.inner, 0)


def loops(ipc: int) -> tuple[int, int]:
    """(outer, inner) for images per class: published, or linear between the neighbours.

    Above 50 (50, 10), as the author advises.
    """
    if ipc >= 50:
        return LOOPS[50]
    below = max(at for at in LOOPS if at <= ipc)
    above = min(at for at in LOOPS if at > ipc)
    share = (ipc - below) / (above - below)
    outer, inner = (
        round(a + share * (b - a)) for a, b in zip(LOOPS[below], LOOPS[above], strict=True)
    )
    return outer, inner


class State(NamedTuple):
    """images (n, h, w, c), labels (n, class), optimiser: SGD's momentum, params of the network,
    place: image updates that this network has seen, 0 .. outer-1."""

    images: Array
    labels: Array
    optimiser: Any
    params: Variables
    place: Array


@dataclass(frozen=True)
class DC:
    """The Distiller; holds parameters, not progress."""

    setting: Setting
    config: Config
    net: Net
    outer: int
    inner: int
    strategy: str
    shares: Shares = ALONE

    @property
    def about(self) -> str:
        """The networks, for the plan of a run."""
        return f"fresh {self.config.network}s, real and synthetic gradients matched"

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """SGD on the images."""
        return matching.momentum_sgd(self.config, self.setting.schedule)

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        images, shape = coreset.images, self.setting.image_shape
        params = matching.fresh(self.net, key, shape)  # replaced by the first step
        return State(
            images, coreset.labels, self.optimiser.init(images), params, jnp.zeros((), jnp.int32)
        )

    def coreset(self, state: State) -> Coreset:
        return Coreset(state.images, state.labels, jnp.zeros((), jnp.float64))

    def augmented(self, key: Array, images: Array) -> Array:
        """Siamese: the same parameters for every image of a class, real and synthetic."""
        return siamese.augment(key, images, self.strategy, siamese=True)

    def real_gradient(self, params: Variables, real: Real, label: Array) -> tuple[Variables, Array]:
        """(grad_theta of the mean cross-entropy on the real images, share of hits)."""
        objective = partial(matching.cross_entropy, self.net)

        def piece(x: Array, w: Array) -> tuple[Variables, Array]:
            gradient, hits = jax.grad(objective, has_aux=True)(params, x, label, w)
            return gradient, hits

        return matching.summed_in_pieces(piece, self.setting.micro, real.images, real.weights)

    def class_loss(
        self, synthetic: Array, params: Variables, target: Variables, label: Array
    ) -> Float[Array, ""]:
        """D between the gradient on these images of one class and the real one."""
        n = synthetic.shape[0]
        weights = jnp.full(n, 1 / n, jnp.float32)
        objective = partial(matching.cross_entropy, self.net)
        gradient, _ = jax.grad(objective, has_aux=True)(params, synthetic, label, weights)
        return matching.gradient_distance(self.config.distance, target, gradient)

    def value_and_grad(
        self, images: Array, params: Variables, batch: Batch, key: Array
    ) -> tuple[Info, Array]:
        """(loss and accuracy, gradient of the summed loss with respect to all images); inside
        `shares.spread`.

        loss is the mean over the classes of the batch.
        """
        classes = self.setting.classes
        most = matching.most_of_a_class(batch.labels.shape[0], classes)

        def one_class(part: tuple[Array, Array]) -> Any:
            label, synthetic = part
            real = matching.real_images(batch, label, most)
            augmented = partial(self.augmented, jax.random.fold_in(key, label))
            real = real._replace(images=augmented(real.images))
            target, hits = self.real_gradient(params, real, label)

            def loss(synthetic: Array) -> Array:
                return self.class_loss(augmented(synthetic), params, target, label)

            value, slope = jax.value_and_grad(loss)(synthetic)
            present = real.present
            return present * value, present * hits, present * slope, present

        values, hits, slopes, present = matching.each_class(self.shares, one_class, images, classes)
        count = jnp.maximum(jnp.sum(present), 1)
        info = {"loss": jnp.sum(values) / count, "accuracy": jnp.sum(hits) / count}
        return info, slopes.reshape(images.shape)

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        net_key, match_key, train_key = jax.random.split(key, 3)
        params = jax.lax.cond(
            state.place == 0,
            lambda: matching.fresh(self.net, net_key, self.setting.image_shape),
            lambda: state.params,
        )
        matched = self.shares.spread(self.value_and_grad)
        info, gradient = matched(state.images, params, batch, match_key)
        updates, optimiser = self.optimiser.update(gradient, state.optimiser)
        images: Any = optax.apply_updates(state.images, updates)
        place = state.place + 1
        if self.outer > 1 and self.inner > 0:
            labels = jnp.argmax(state.labels, -1)
            params = jax.lax.cond(
                place < self.outer,
                lambda: self.trained(params, images, labels, train_key),
                lambda: params,
            )
        return State(images, state.labels, optimiser, params, place % self.outer), info

    def trained(self, params: Variables, images: Array, labels: Array, key: Array) -> Variables:
        """The network after `inner` epochs of plain SGD on the coreset, augmented image by image
        where there is augmentation."""
        n = images.shape[0]
        size = min(n, self.config.network_batch)
        per_epoch = -(-n // size)
        order_key, augment_key = jax.random.split(key)

        def update(step: Array, params: Variables) -> Variables:
            order = jax.random.permutation(
                jax.random.fold_in(order_key, step // per_epoch), jnp.arange(n, dtype=jnp.int32)
            )
            at = step % per_epoch * size + jnp.arange(size, dtype=jnp.int32)
            real = (at < n).astype(jnp.float32)  # the last batch of an epoch may be smaller
            rows = order[jnp.minimum(at, n - 1)]
            x = siamese.augment(jax.random.fold_in(augment_key, step), images[rows], self.strategy)
            objective = jax.grad(partial(matching.cross_entropy, self.net), has_aux=True)
            gradient = matching.summed_in_pieces(
                lambda x, y, w: objective(params, x, y, w)[0],
                self.setting.micro, x, labels[rows], real / jnp.sum(real),
            )  # fmt: skip
            rate = self.config.network_rate
            return jax.tree.map(lambda p, g: p - rate * g, params, gradient)

        return jax.lax.fori_loop(0, self.inner * per_epoch, update, params)

    def validator(self, key: PRNGKeyArray, images: Array, labels: Array) -> Validator:
        return matching.score_by_regression(self.setting, key, images, labels)

    def flops(self, batch: int, coreset: int) -> float:
        # Real: forward and backward (2). Synthetic: both, and their backward (2 x 3).
        trained = 3 * coreset * self.inner if self.outer > 1 else 0
        one = matching.forward_flops(self.net, self.setting.image_shape)
        return one * (3 * batch + 9 * coreset + trained)


def make(setting: Setting) -> DC:
    """DC bound to a setting."""
    config: Config = setting.config.method
    outer, inner = loops(setting.config.ipc)
    outer = config.outer if config.outer is not None else outer
    inner = config.inner if config.inner is not None else inner
    strategy = matching.strategy_of(setting)
    config = replace(config, augmentation=strategy)
    net, shares = matching.matching_net(setting), in_a_row(CLASS, setting.classes)
    return DC(setting, config, net, outer, inner, strategy, shares)
