"""What a distillation method is: pure functions on an explicit state.

A method is one module in this package with a dataclass `Config` (its parameters) and a function
`make(setting) -> Distiller`, and one file in configs/method. Contract tests find it by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from distill_cli.arch.layers import Architecture
from distill_cli.config import Config
from distill_cli.core.linalg import Reg
from distill_cli.core.schedule import Schedule
from distill_cli.core.types import Batch, Coreset

State = TypeVar("State")
Info = dict[str, Float[Array, ""]]
Validator = Callable[[Coreset], Info]


@dataclass(frozen=True)
class Setting:
    """What a method is given besides its own parameters.

    config: the whole run; architecture: the network description; image_shape: (h, w, c) after
    preprocessing; classes; micro: images whose activations may be in memory at once; whitened:
    whether the images were whitened; ridge_weights: mean(u) / u_i of a start drawn with weights
    u_i, where init.weights=ridge.
    """

    config: Config
    architecture: Architecture
    image_shape: tuple[int, int, int]
    classes: int
    micro: int
    whitened: bool = False
    ridge_weights: Float[np.ndarray, " coreset"] | None = None

    @property
    def reg(self) -> Reg:
        """The method's relative ridge, of each support image where they have weights: an image
        that stands for many is fitted more closely, K_ss + ridge trace(K_ss)/n diag(mean(u)/u)."""
        ridge, weights = self.config.method.ridge, self.ridge_weights
        return ridge if weights is None else ridge * weights

    @property
    def schedule(self) -> Schedule:
        """What every learning rate of the coreset goes through."""
        return Schedule.of(self.config)


class Distiller(Protocol[State]):
    """A method with its parameters bound."""

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        """The state before the first step; every array that changes is in it."""
        ...

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        """One update. info: scalars to log, `loss` and `accuracy` on the batch among them."""
        ...

    def coreset(self, state: State) -> Coreset:
        """The distilled set of this state, in preprocessed space."""
        ...

    def validator(
        self, key: PRNGKeyArray, images: Float[Array, "n h w c"], labels: Int[Array, " n"]
    ) -> Validator:
        """A function coreset -> {valid_loss, valid_accuracy} on the given images.

        Its randomness is fixed by key, so that scores of different steps compare.
        """
        ...

    # Optional: `about`, a line on the method's own networks for the plan; `steps` (see steps_of);
    # `losses(state, images, labels, key)`, its own loss of each image, for samplers.

    def flops(self, batch: int, coreset: int) -> float:
        """Arithmetic of one step (multiply and add count as two), for estimates only."""
        ...


def steps_of(distiller: Distiller[Any], wanted: int, images: int, batch: int) -> int:
    """Steps that a run makes: `wanted`, or what the method says where it knows better (an optional
    attribute `steps(wanted, images, batch)`, for methods that end by themselves)."""
    own = getattr(distiller, "steps", None)
    return wanted if own is None else own(wanted, images, batch)


def make_distiller(setting: Setting) -> Distiller[Any]:
    """The method named in the configuration, averaged where average=ema."""
    from distill_cli.methods.averaged import Averaged  # it imports this module

    config, method = setting.config, method_module(setting.config).make(setting)
    return method if config.average == "none" else Averaged(method, config.average_decay)


def arithmetic(config: Config) -> dict[str, Any] | None:
    """For result.json: the precisions that a method chose for this device, where its module has a
    function `arithmetic(config)`; None where its settings say all."""
    own = getattr(method_module(config), "arithmetic", None)
    return None if own is None else own(config)


def method_module(config: Config) -> Any:
    """The module of the method named in the configuration."""
    import importlib

    return importlib.import_module(f"distill_cli.methods.{config.method.name}")
