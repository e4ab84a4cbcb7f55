"""KIP: Kernel Inducing Points.

Nguyen, Chen, Lee, "Dataset Meta-Learning from Kernel Ridge-Regression", ICLR 2021 (2011.00050), and
Nguyen, Novak, Xiao, Lee, "Dataset Distillation with Infinitely Wide Convolutional Networks",
NeurIPS 2021 (2107.13034):

    f(x) = K(x, X_S) (K(X_S, X_S) + reg trace/n I)^-1 y_S,    K: the exact NTK (or NNGP)
    loss = 0.5 mean over images and classes of (f(x) - y)^2,  x, y: a batch of the training set
    learn X_S (and y_S with labels=learned) by Adam, one rate for both

method.kernels lists several architectures: each step draws one of them (2107.13034, "sampling
KIP").
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from distill_cli.arch.named import named
from distill_cli.augment.kip import KipAugmentation, augment
from distill_cli.config import at_least, within
from distill_cli.core.linalg import Reg
from distill_cli.core.losses import LOSSES
from distill_cli.core.schedule import Schedule
from distill_cli.core.types import Batch, Coreset
from distill_cli.errors import UserError
from distill_cli.kernels import EXACT_KERNELS
from distill_cli.kernels.exact_kernel import ExactKernel, make_exact_kernel
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.corruption import Frozen, check_corruption, freeze, put_back
from distill_cli.methods.krr import kernel_score, kernel_value_and_grad

ALLOWS = {"kernel": EXACT_KERNELS}  # config.py check_combination


@dataclass(frozen=True)
class Config:
    """KIP's parameters.

    ridge: relative to trace(K_ss)/n; learning_rate: Adam's, of images and labels; corruption: share
    of pixels frozen at their initial values (rho); kernels: architectures by name (arch/named.py),
    one drawn each step; empty: the architecture of the run; augmentation: of the target images, in
    preprocessed space (share 0: none).
    """

    name: str = "kip"
    ridge: float = 1e-6
    learning_rate: float = 0.04
    corruption: float = 0.0
    kernels: tuple[str, ...] = ()
    augmentation: KipAugmentation = field(default_factory=lambda: KipAugmentation(share=0))

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise UserError(f"method.ridge={self.ridge}: must be above 0")
        at_least("method.learning_rate", self.learning_rate, 0)
        within("method.corruption", self.corruption, 0, 1)


class State(NamedTuple):
    """params: images (n, h, w, c), labels (n, class), log_temperature (); optimiser: Adam's
    moments; frozen: see corruption.py."""

    params: dict[str, Array]
    optimiser: Any
    frozen: Frozen


@dataclass(frozen=True)
class KIP:
    """The Distiller; holds parameters, not progress."""

    config: Config
    kernels: tuple[ExactKernel, ...]
    loss_name: str
    learn_labels: bool
    image_shape: tuple[int, int, int]
    reg: Reg
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        rate = self.schedule(self.config.learning_rate)
        learned = {"images"}
        learned |= {"labels"} if self.learn_labels else set()
        learned |= {"log_temperature"} if self.loss_name == "platt" else set()
        rules: dict[Any, optax.GradientTransformation] = {
            name: optax.adam(rate) if name in learned else optax.set_to_zero()
            for name in ("images", "labels", "log_temperature")
        }
        return optax.multi_transform(rules, lambda params: {name: name for name in params})

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        params = coreset._asdict()
        params["log_temperature"] = params["log_temperature"].astype(jnp.float64)
        frozen = freeze(key, coreset.images, self.config.corruption)
        return State(params, self.optimiser.init(params), frozen)

    def coreset(self, state: State) -> Coreset:
        params = state.params
        images = put_back(params["images"], state.frozen)
        return Coreset(images, params["labels"], params["log_temperature"])

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        coreset = self.coreset(state)
        key, key_augment = jax.random.split(key)
        if self.config.augmentation.share > 0:
            images = augment(key_augment, batch.images, self.config.augmentation)
            batch = batch._replace(images=images)

        def with_kernel(kernel: ExactKernel, coreset: Coreset, batch: Batch) -> Any:
            loss, reg = LOSSES[self.loss_name], self.reg
            return kernel_value_and_grad(kernel.gram, coreset, batch, loss=loss, reg=reg)

        branches = [partial(with_kernel, kernel) for kernel in self.kernels]
        drawn = jax.random.randint(key, (), 0, len(branches), jnp.int32)
        info, grads = jax.lax.switch(drawn, branches, coreset, batch)
        # Where pixels are frozen, put_back hides what Adam does to them.
        updates, optimiser = self.optimiser.update(grads._asdict(), state.optimiser, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        return State(params, optimiser, state.frozen), info

    def validator(self, key: PRNGKeyArray, images: Array, labels: Array) -> Validator:
        del key  # exact kernels have no randomness
        scores = [
            kernel_score(
                kernel.gram, images, labels,
                loss=LOSSES[self.loss_name], reg=self.reg,
            )
            for kernel in self.kernels
        ]  # fmt: skip

        def mean_score(coreset: Coreset) -> Info:
            found = [score(coreset) for score in scores]
            return jax.tree.map(lambda *values: sum(values) / len(values), *found)

        return mean_score

    def flops(self, batch: int, coreset: int) -> float:
        return max(
            kernel.flops((batch + coreset) * coreset, self.image_shape) for kernel in self.kernels
        )

    def bytes_moved(self, batch: int, coreset: int) -> float:
        """Of a step on an accelerator (train/loop.py chunk_length)."""
        pairs = (batch + coreset) * coreset
        return max(kernel.bytes_moved(pairs, self.image_shape) for kernel in self.kernels)


def make(setting: Setting) -> KIP:
    """KIP bound to a setting; refuses settings that it cannot use."""
    config = setting.config
    check_corruption(setting)
    width = 1  # widths do not matter to infinite networks
    architectures = [named(name, width, "method.kernels") for name in config.method.kernels]
    kernels = tuple(
        make_exact_kernel(architecture, config.kernel)
        for architecture in architectures or [setting.architecture]
    )
    for kernel in kernels:
        kernel.check_fits(setting.image_shape)
    return KIP(
        config.method, kernels, config.loss, config.labels == "learned", setting.image_shape,
        setting.reg, setting.schedule,
    )  # fmt: skip
