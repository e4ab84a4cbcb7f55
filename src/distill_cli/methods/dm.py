"""DM: dataset condensation by matching means of features.

Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023 (arXiv 2110.04181), in
the form of the authors' program (VICO-UoE/DatasetCondensation, commit 53f63a6):

    phi ~ features of a fresh random network, never trained     every step
    L  = sum_c || mean_{T_c} phi(A(x)) - mean_{S_c} phi(A(s)) ||^2
    S <- S - rate v,   v <- momentum v + grad_S L

A is DSA's siamese augmentation, drawn anew for each class. No gradient of a gradient is needed: a
step costs one forward pass over the batch, and one forward and backward pass over the coreset.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.augment import dsa as siamese
from distill_cli.core.types import Batch, Coreset
from distill_cli.kernels.shares import ALONE, CLASS, Shares, in_a_row
from distill_cli.methods import matching
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.matching import Real, Variables
from distill_cli.nets import Net

ALLOWS = {"labels": ("fixed",), "loss": ("mse",)}  # config.py check_combination


@dataclass(frozen=True)
class Config:
    """DM's parameters.

    network, width, depth, norm: the random networks (nets.build; null: the network's own);
    learning_rate, momentum: SGD on the images; augmentation: families of augment.dsa joined by _,
    none, or auto (all, without flip on digits); ridge: of the validation score.
    """

    name: str = "dm"
    network: str = "convnet"
    width: int | None = None
    depth: int | None = None
    norm: str | None = None
    learning_rate: float = 1.0
    momentum: float = 0.5
    augmentation: str = "auto"
    ridge: float = 5e-3

    def __post_init__(self) -> None:
        matching.check_common(self)


class State(NamedTuple):
    """images (n, h, w, c), labels (n, class), optimiser: SGD's momentum."""

    images: Array
    labels: Array
    optimiser: Any


@dataclass(frozen=True)
class DM:
    """The Distiller; holds parameters, not progress."""

    setting: Setting
    config: Config
    net: Net
    strategy: str
    shares: Shares = ALONE

    @property
    def about(self) -> str:
        """The networks, for the plan of a run."""
        return f"fresh {self.config.network}s, real and synthetic features matched"

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """SGD on the images."""
        return matching.momentum_sgd(self.config, self.setting.schedule)

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        del key
        return State(coreset.images, coreset.labels, self.optimiser.init(coreset.images))

    def coreset(self, state: State) -> Coreset:
        return Coreset(state.images, state.labels, jnp.zeros((), jnp.float64))

    def features(self, params: Variables, images: Array) -> Float[Array, "n d"]:
        """phi: the flattened activations before the read-out."""
        phi: Any = self.net.apply({"params": params}, images, train=True, method="features")
        return phi

    def real_mean(self, params: Variables, real: Real) -> Float[Array, " d"]:
        """Mean feature of the real images, a micro-batch at a time."""

        def piece(x: Array, w: Array) -> Array:
            return w @ self.features(params, x)

        return matching.summed_in_pieces(piece, self.setting.micro, real.images, real.weights)

    def value_and_grad(
        self, images: Array, params: Variables, batch: Batch, key: Array
    ) -> tuple[Info, Array]:
        """({loss, accuracy}, gradient of L with respect to all images); inside `shares.spread`.

        loss: L over the number of classes in the batch. accuracy: share of these classes whose
        real mean lies nearest to its own synthetic mean.
        """
        classes = self.setting.classes
        most = matching.most_of_a_class(batch.labels.shape[0], classes)

        def one_class(part: tuple[Array, Array]) -> Any:
            label, synthetic = part
            real = matching.real_images(batch, label, most)
            augmented = partial(
                siamese.augment, jax.random.fold_in(key, label),
                strategy=self.strategy, siamese=True,
            )  # fmt: skip
            target = self.real_mean(params, real._replace(images=augmented(real.images)))

            def loss(synthetic: Array) -> tuple[Array, Array]:
                mean = jnp.mean(self.features(params, augmented(synthetic)), 0)
                return jnp.sum((target - mean) ** 2), mean

            (value, mean), slope = jax.value_and_grad(loss, has_aux=True)(synthetic)
            present = real.present
            return present * value, present * slope, present, target, mean

        values, slopes, present, real, synthetic = matching.each_class(
            self.shares, one_class, images, classes
        )
        count = jnp.maximum(jnp.sum(present), 1)
        # |r - s|^2 without |r|^2, which is the same for all s.
        distances = jnp.sum(synthetic**2, 1)[None] - 2 * real @ synthetic.T
        right = jnp.argmin(distances, 1) == jnp.arange(classes)
        info = {"loss": jnp.sum(values) / count, "accuracy": jnp.sum(present * right) / count}
        return info, slopes.reshape(images.shape)

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        net_key, match_key = jax.random.split(key)
        params = matching.fresh(self.net, net_key, self.setting.image_shape)
        matched = self.shares.spread(self.value_and_grad)
        info, gradient = matched(state.images, params, batch, match_key)
        updates, optimiser = self.optimiser.update(gradient, state.optimiser)
        images: Any = optax.apply_updates(state.images, updates)
        return State(images, state.labels, optimiser), info

    def validator(self, key: PRNGKeyArray, images: Array, labels: Array) -> Validator:
        return matching.score_by_regression(self.setting, key, images, labels)

    def flops(self, batch: int, coreset: int) -> float:
        one = matching.forward_flops(self.net, self.setting.image_shape)
        return one * (batch + 3 * coreset)


def make(setting: Setting) -> DM:
    """DM bound to a setting."""
    net = matching.matching_net(setting)
    strategy = matching.strategy_of(setting)
    return DM(setting, setting.config.method, net, strategy, in_a_row(CLASS, setting.classes))
