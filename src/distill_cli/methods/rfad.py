"""RFAD: dataset distillation with random-feature NNGP regression.

Loo, Hasani, Amini, Rus, "Efficient Dataset Distillation Using Random Feature Approximation",
NeurIPS 2022 (arXiv 2210.12067), Algorithm 1, in the form of the authors' released program:

    theta_1..theta_N ~ fresh random networks every step
    Z    = X_S M                            M: learned pixel matrix, starts at the identity
    K    = 2 <Phi, Phi'> + 0.01             Phi: features of the N networks / sqrt(N d)
    f(x) = K(x, Z) (K(Z, Z) + jit trace/n I)^-1 y_S
    loss = cross-entropy(softmax(exp(k) f(x)))          loss=platt
         | 0.5 mean (f(x) - y)^2                        loss=mse
    learn X_S, M, k (platt), y_S (labels=learned) by AdaBelief, each at its own rate

method.jackknife takes a share of the few networks' error off the loss (jackknife.py); unpublished.

Where the paper and the program differ the program is followed (no read-out sampled, relative ridge,
the matrix M). docs/decisions.md lists what was corrected.
"""

import importlib
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.arch.layers import Conv, Dense, feature_shape
from distill_cli.config import at_least, within
from distill_cli.core.linalg import Reg
from distill_cli.core.losses import LOSSES
from distill_cli.core.schedule import Schedule
from distill_cli.core.types import Batch, Coreset
from distill_cli.errors import UserError
from distill_cli.kernels import products
from distill_cli.kernels.ensemble import Ensemble
from distill_cli.kernels.micro_batches import micro_pieces
from distill_cli.kernels.random_features import RandomFeatureKernel, arithmetic_of, fused_of
from distill_cli.kernels.shares import ALONE, Shares, arrange
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.corruption import Frozen, check_corruption, freeze, put_back
from distill_cli.methods.jackknife import jackknife
from distill_cli.methods.krr import (
    PLAIN,
    Gram,
    Regression,
    feature_validator,
    krr_value_and_grad,
)

WHOLE = 128  # a coreset up to this size is one piece, where micro-batches are smaller
ALLOWS = {"kernel": ("random_features",)}  # config.py check_combination
GROWS = ("networks", "width", "batch")  # config.py check_course


@dataclass(frozen=True)
class LearningRates:
    """AdaBelief step sizes: coreset pixels, pixel matrix M, labels y_S, log temperature k."""

    images: float = 1e-3
    transform: float = 5e-5
    labels: float = 1e-3
    log_temperature: float = 1e-2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            at_least(f"method.learning_rates.{name}", value, 0)


@dataclass(frozen=True)
class Config:
    """RFAD's parameters.

    ridge: relative to trace(K_ss)/n ("jit"); transform: learn the pixel matrix M; jackknife:
    share of the few networks' error that is taken off the loss (jackknife.py), 0: as published;
    corruption: share of pixels frozen at their initial values (privacy, rho).
    """

    name: str = "rfad"
    ridge: float = 5e-3
    transform: bool = True
    jackknife: float = 0.0
    corruption: float = 0.0
    learning_rates: LearningRates = field(default_factory=LearningRates)

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise UserError(f"method.ridge={self.ridge}: must be above 0")
        within("method.jackknife", self.jackknife, 0, 1)
        within("method.corruption", self.corruption, 0, 1)


class State(NamedTuple):
    """params: images (n, h, w, c), transform M (h w c, h w c) if learned,
    labels (n, class), log_temperature (); optimiser: AdaBelief's moments; frozen: initial images
    and the mask of pixels that stay as they were (None without corruption)."""

    params: dict[str, Array]
    optimiser: Any
    frozen: Frozen


def adabelief(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """AdaBelief as the released program has it: eps 1e-16 inside the root as well as outside."""
    return optax.adabelief(rate, eps=1e-16, eps_root=1e-16)


@dataclass(frozen=True)
class RFAD:
    """The Distiller; holds parameters, not progress."""

    config: Config
    kernel: RandomFeatureKernel
    loss_name: str
    learn_labels: bool
    micro: int
    validation_networks: int
    reg: Reg
    shares: Shares = ALONE
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        rates = self.config.learning_rates
        learned = {"images"}
        learned |= {"transform"} if self.config.transform else set()
        learned |= {"labels"} if self.learn_labels else set()
        learned |= {"log_temperature"} if self.loss_name == "platt" else set()
        rules: dict[Any, optax.GradientTransformation] = {
            name: adabelief(self.schedule(rate)) if name in learned else optax.set_to_zero()
            for name, rate in vars(rates).items()
        }
        return optax.multi_transform(rules, lambda params: {name: name for name in params})

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        pixels = coreset.images[0].size
        matrix = {"transform": jnp.eye(pixels, dtype=jnp.float32)} if self.config.transform else {}
        params = {
            **matrix,
            "images": coreset.images,
            "labels": coreset.labels,
            "log_temperature": coreset.log_temperature.astype(jnp.float64),
        }
        frozen = freeze(key, coreset.images, self.config.corruption)
        return State(params, self.optimiser.init(params), frozen)

    def images(self, params: dict[str, Array], frozen: Frozen) -> Array:
        """Z = X_S M, with the masked pixels put back to their initial values (section 7)."""
        x_s = params["images"]
        if self.config.transform:  # pixels are never rounded to TF32
            rows = x_s.reshape(x_s.shape[0], -1)
            x_s = jnp.matmul(rows, params["transform"], precision="highest").reshape(x_s.shape)
        return put_back(x_s, frozen)

    def coreset(self, state: State) -> Coreset:
        images = self.images(state.params, state.frozen)
        return Coreset(images, state.params["labels"], state.params["log_temperature"])

    @property
    def regression(self) -> Regression:
        """How the loss is estimated."""
        share = self.config.jackknife
        return jackknife(share) if share else PLAIN

    def gram(self, ensemble: Ensemble) -> Gram:
        """The kernels that `regression` takes: of each network, or of all."""
        return ensemble.grams if self.config.jackknife else ensemble.gram

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        def transformed(params: dict[str, Array]) -> Coreset:
            return self.coreset(state._replace(params=params))

        coreset, pull = jax.vjp(transformed, state.params)
        info, grads = self.shares.spread(self.value_and_grad)(key, coreset, batch)
        (gradient,) = pull(grads)
        updates, optimiser = self.optimiser.update(gradient, state.optimiser, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        info["temperature"] = jnp.exp(-params["log_temperature"])
        return State(params, optimiser, state.frozen), info

    def value_and_grad(
        self, key: PRNGKeyArray, coreset: Coreset, batch: Batch
    ) -> tuple[Info, Coreset]:
        """Loss and gradient of a coreset with the networks of this key; inside `shares.spread`."""
        ensemble = Ensemble(self.kernel, self.shares)
        networks = ensemble.sample(key)

        def featurise(images: Array) -> Array:
            # A micro-batch of the batch is one piece; so is a coreset of up to WHOLE images.
            return ensemble.features(networks, images, max(self.micro, WHOLE))

        return krr_value_and_grad(
            featurise, self.gram(ensemble), coreset, batch,
            loss=LOSSES[self.loss_name], reg=self.reg, micro=self.micro, shares=self.shares,
            regression=self.regression,
        )  # fmt: skip

    def validator(
        self, key: PRNGKeyArray, images: Float[Array, "n h w c"], labels: Array
    ) -> Validator:
        kernel = replace(self.kernel, networks=self.validation_networks)
        return feature_validator(
            kernel, key, images, labels,
            loss=LOSSES[self.loss_name], reg=self.reg, micro=self.micro,
            gram=self.gram, regression=self.regression,
        )  # fmt: skip

    def flops(self, batch: int, coreset: int) -> float:
        # Forward for the batch; forward, recomputed forward and backward (2) for the coreset.
        network = network_flops(self.kernel)
        images = batch + 4 * coreset
        products = 2 * self.kernel.dim * coreset * (2 * batch + 3 * coreset)
        return self.kernel.networks * (images * network + products)


def network_flops(kernel: RandomFeatureKernel) -> float:
    """Multiplications and additions of one network on one image."""
    total, shape = 0.0, tuple(kernel.image_shape)
    layers = kernel.architecture.layers
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv):
            total += 2 * 9 * shape[0] * shape[1] * shape[2] * layer.width
        elif isinstance(layer, Dense):
            total += 2 * shape[0] * layer.width
        upto = type(kernel.architecture)(layers[: index + 1])
        shape = feature_shape(upto, kernel.image_shape)
    return total


def make(setting: Setting) -> RFAD:
    """RFAD bound to a setting; refuses settings that it cannot use."""
    config, classes = setting.config, setting.classes
    check_corruption(setting)
    if config.method.jackknife and config.kernel.networks < 2:
        raise UserError(
            f"method.jackknife={config.method.jackknife}: needs at least 2 networks, not "
            "kernel.networks=1"
        )
    kernel = RandomFeatureKernel(
        setting.architecture, setting.image_shape, config.kernel.networks,
        arithmetic_of(config.kernel.features),
        fused_of(config.kernel.fused, setting.architecture),
    )  # fmt: skip
    batch = config.batch.size * config.batch.number
    pieces, micro = micro_pieces(batch, setting.micro)
    shares = arrange(kernel.networks, pieces, micro, config.ipc * classes)
    return RFAD(
        config.method, kernel, config.loss, config.labels == "learned", setting.micro,
        config.validation.networks, setting.reg, shares, setting.schedule,
    )  # fmt: skip


def arithmetic(config: Any) -> dict[str, Any]:
    """In what the parts of a step are computed; features and fused depend on the device."""
    module = importlib.import_module(f"distill_cli.arch.{config.architecture.name}")
    features = arithmetic_of(config.kernel.features)
    return {
        "features": features,
        "fused": fused_of(config.kernel.fused, module.build(config.architecture)),
        "kernel_matrix": products.arithmetic_of(features),
        "pixel_matrix": "float32", "solve": "float64",
    }  # fmt: skip
