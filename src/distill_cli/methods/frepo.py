"""FRePo: dataset distillation by neural feature regression with pooling.

Zhou, Nezhadarya, Ba, "Dataset Distillation using Neural Feature Regression", NeurIPS 2022
(arXiv 2206.00719), in the form of the authors' released program:

    theta   one of 10 networks, drawn at random; each was trained on the coreset for 0..100 steps
    X_s'    = [X_s, mirror(X_s)], Y_s' = [Y_s, Y_s]                          flip
    Phi     = h_theta: what the last layer of the network reads, running batch statistics
    f(x)    = <Phi(x), Phi_s'> (K + ridge trace(K)/n I)^-1 Y_s',   K = Phi_s' Phi_s'^T
    loss    = mean_i 1/2 ||f(x_i) - y_i||^2 - mean_j min(top1(Y_s,j) - top2(Y_s,j), 1/C)
    learn X_s and Y_s by LAMB, step size falling along a cosine to a tenth, or as schedule= says

The first term is the mechanism of krr.py, the second pushes every label to a margin of 1/C and no
further. Then the network makes one step of training on the new coreset, or is replaced
(frepo_pool.py). docs/frepo.md says what differs from the released program.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.config import at_least, within
from distill_cli.core import devices
from distill_cli.core.linalg import Reg
from distill_cli.core.schedule import Schedule
from distill_cli.core.types import Batch, Coreset
from distill_cli.errors import UserError
from distill_cli.kernels.micro_batches import micro_pieces
from distill_cli.kernels.shares import ALONE, NETWORK, Shares, arrange, in_a_row, map_shared
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.frepo_loss import half_squares, inner_product, with_margin, with_mirror
from distill_cli.methods.frepo_pool import (
    Member,
    OnlineNetworks,
    Turn,
    forward_flops,
    micro_batch,
)
from distill_cli.methods.krr import krr_score, krr_value_and_grad
from distill_cli.nets import build

# config.py check_combination
ALLOWS = {"kernel": ("random_features",), "loss": ("mse",)}


@dataclass(frozen=True)
class LearningRates:
    """LAMB step sizes of the coreset's pixels and labels, relative to the norm of each tensor."""

    images: float = 3e-4
    labels: float = 3e-4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            at_least(f"method.learning_rates.{name}", value, 0)


@dataclass(frozen=True)
class Config:
    """FRePo's parameters.

    network, width, depth, norm: the networks of the pool (nets.build; null: the network's own);
    pool: members; networks: of them that a step uses, each on its part of the batch;
    online_updates: steps after which a member is replaced; online_rate: of their Adam; ridge:
    relative to trace(K)/n; flip: regression on the coreset and its mirror images; margin: the
    term that keeps learned labels apart; label_scale: labels start divided by sqrt(classes / 10);
    learning_rates: start of the cosine; final_rate: its end, relative (of schedule=constant; other
    schedules take its place); compat: networks and replacement exactly as the released program has
    them.
    """

    name: str = "frepo"
    network: str = "frepo_conv"
    width: int | None = None
    depth: int | None = None
    norm: str | None = "batch"
    pool: int = 10
    networks: int = 1
    online_updates: int = 100
    online_rate: float = 3e-4
    ridge: float = 1e-6
    flip: bool = False
    margin: bool = True
    label_scale: bool = True
    learning_rates: LearningRates = field(default_factory=LearningRates)
    final_rate: float = 0.1
    compat: bool = False

    def __post_init__(self) -> None:
        at_least("method.pool", self.pool, 1)
        within("method.networks", self.networks, 1, self.pool)
        for key in ("online_updates", "online_rate", "final_rate"):
            at_least(f"method.{key}", getattr(self, key), 0)
        if not self.ridge > 0:
            raise UserError(f"method.ridge={self.ridge}: must be above 0")


class State(NamedTuple):
    """params: images (n, h, w, c), labels (n, class); optimiser: LAMB's moments; pool: networks."""

    params: dict[str, Array]
    optimiser: Any
    pool: Member


@dataclass(frozen=True)
class FRePo:
    """The Distiller; holds parameters, not progress."""

    config: Config
    networks: OnlineNetworks
    learn_labels: bool
    cosine_steps: int
    micro: int
    validation_networks: int
    reg: Reg
    shares: Shares = ALONE
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        def lamb(rate: float) -> optax.GradientTransformation:
            own, last = max(1, self.cosine_steps), self.config.final_rate
            schedule = self.schedule(rate)
            if self.schedule.constant:
                schedule = optax.cosine_decay_schedule(rate, own, alpha=last)
            return optax.lamb(schedule, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.0)

        rates = self.config.learning_rates
        labels = lamb(rates.labels) if self.learn_labels else optax.set_to_zero()
        rules: dict[Any, Any] = {"images": lamb(rates.images), "labels": labels}
        return optax.multi_transform(rules, lambda params: {name: name for name in params})

    @property
    def about(self) -> str:
        """The networks, for the plan of a run."""
        method = self.config
        return (
            f"{method.pool} x {method.network} of width {method.width or 128}, norm {method.norm}"
        )

    def start(self, coreset: Coreset) -> dict[str, Array]:
        """The initial images, and their labels divided by sqrt(classes / 10)."""
        scale = math.sqrt(coreset.labels.shape[-1] / 10) if self.config.label_scale else 1.0
        return {"images": coreset.images, "labels": coreset.labels / scale}

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        params = self.start(coreset)
        pool = self.networks.pool(key, self.config.pool)
        return State(params, self.optimiser.init(params), pool)

    def coreset(self, state: State) -> Coreset:
        return Coreset(**state.params, log_temperature=jnp.zeros((), jnp.float64))

    def support(self, coreset: Coreset) -> Coreset:
        """What the regression is on: the coreset, with its mirror images if flip is on."""
        return with_mirror(coreset) if self.config.flip else coreset

    def regression(
        self, params: dict[str, Array], variables: Any, batch: Batch
    ) -> tuple[Info, dict[str, Array]]:
        """The regression loss of one network on a batch, and its gradient with respect to the
        coreset; inside `shares.spread`."""

        def support(params: dict[str, Array]) -> Coreset:
            return self.support(Coreset(**params, log_temperature=jnp.zeros((), jnp.float64)))

        points, pull = jax.vjp(support, params)
        info, grads = krr_value_and_grad(
            partial(self.networks.features, variables, micro=self.micro), inner_product,
            points, batch, loss=half_squares, reg=self.reg, micro=self.micro, shares=self.shares,
        )  # fmt: skip
        return info, pull(grads)[0]

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        return self.shares.spread(self.shared_step)(state, batch, key)

    def shared_step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        """`step` as every device makes it with its share of the networks and of the batch."""
        method = self.config
        turn = Turn.draw(self.networks, key, method.pool, method.networks, self.shares)
        mean = turn.mean(partial(self.regression, state.params), state.pool, batch)
        info, gradient = with_margin(state.params["labels"], *mean) if method.margin else mean
        updates, optimiser = self.optimiser.update(gradient, state.optimiser, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        new = state._replace(params=params, optimiser=optimiser)
        return new._replace(pool=turn.maintained(state.pool, self.coreset(new))), info

    def validator(
        self, key: PRNGKeyArray, images: Float[Array, "n h w c"], labels: Array
    ) -> Validator:
        """The distillation's own loss, without margin, on networks of the pool's mean age.

        Their initial weights are fixed by key; each coreset trains them online_updates / 2 steps.
        """
        count, shares = self.validation_networks, in_a_row(NETWORK, self.validation_networks)
        networks, updates = self.networks, self.networks.most // 2

        def score(keys: Array, images: Array, labels: Array, coreset: Coreset) -> dict[str, Array]:
            def one(number: Array) -> dict[str, Array]:
                trained = networks.trained(keys[number], coreset, updates)
                features = partial(networks.features, trained, micro=self.micro)
                points = self.support(coreset)
                return krr_score(
                    features(images), labels, features(points.images), points,
                    gram=inner_product, loss=half_squares, reg=self.reg,
                )  # fmt: skip

            return jax.tree.map(jnp.mean, map_shared(shares, NETWORK, one, jnp.arange(count)))

        fixed = devices.on_all((jax.random.split(key, count), images, labels))
        return partial(jax.jit(shares.spread(score)), *fixed)

    def flops(self, batch: int, coreset: int) -> float:
        # Forward for the batch, forward and backward (2) for the coreset, mirrored, and online.
        each = 3 * coreset * (2 if self.config.flip else 1) + 3 * min(coreset, 1000)
        images = batch + self.config.networks * each
        return images * forward_flops(self.networks)


def make(setting: Setting) -> FRePo:
    """FRePo bound to a setting; refuses what it cannot use."""
    config, method, reg = setting.config, setting.config.method, setting.reg
    net = build(
        method.network, setting.classes, setting.image_shape,
        width=method.width, norm=method.norm, depth=method.depth, compat=method.compat,
    )  # fmt: skip
    networks = OnlineNetworks(
        net, setting.image_shape, method.online_rate, method.online_updates, method.compat
    )
    micro = setting.micro
    if config.batch.micro is None and jax.default_backend() == "cpu":
        micro = micro_batch(method.width or 128, setting.image_shape, config.batch.size)
    batch = config.batch.size * config.batch.number
    if method.networks > batch:
        raise UserError(
            f"method.networks={method.networks}: must be at most the batch's images, {batch}"
        )
    shares = arrange(
        method.networks,
        *micro_pieces(batch // method.networks, micro),
        config.ipc * setting.classes * (1 + method.flip),
    )
    return FRePo(
        method, networks, config.labels == "learned", config.steps, micro,
        config.validation.networks, np.tile(reg, 2) if method.flip and np.ndim(reg) else reg,
        shares, setting.schedule,
    )  # fmt: skip
