"""average=ema: the coreset is the exponential moving average of those of all steps.

    a_t = d a_{t-1} + (1 - d) S_t,   S = a_t / (1 - d^t)          images, labels, log temperature

d: average_decay. The correction (Kingma & Ba 2015, section 3) makes the first steps count in full.
Around any method: it goes on from its own last coreset, and what is validated, kept and exported
is the average. RCIG (Loo et al., ICML 2023) averages with d = 0.99.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from distill_cli.core.types import Batch, Coreset
from distill_cli.methods.base import Distiller, Info


class State(NamedTuple):
    """method: the method's own state; average: optax's sums and count."""

    method: Any
    average: Any


@dataclass(frozen=True)
class Averaged:
    """A Distiller around another; holds parameters, not progress."""

    method: Distiller[Any]
    decay: float

    def __getattr__(self, name: str) -> Any:
        # What methods may say of themselves besides the protocol (methods/base.py).
        value = getattr(object.__getattribute__(self, "method"), name)
        if name != "losses":
            return value
        return lambda state, *given: value(state.method, *given)

    @property
    def rule(self) -> optax.GradientTransformation:
        """The average, as optax keeps it."""
        return optax.ema(self.decay, debias=True)

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        state = self.method.init(key, coreset)
        return State(state, self.rule.init(self.method.coreset(state)))

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        method, info = self.method.step(state.method, batch, key)
        _, average = self.rule.update(self.method.coreset(method), state.average)
        return State(method, average), info

    def coreset(self, state: State) -> Coreset:
        """The average; before the first step the initial coreset."""
        average, now = state.average, self.method.coreset(state.method)
        count = jnp.maximum(average.count, 1)
        mean = optax.tree.bias_correction(average.ema, self.decay, count)
        return jax.tree.map(lambda a, b: jnp.where(average.count > 0, a, b), mean, now)

    def validator(self, key: PRNGKeyArray, images: Any, labels: Any) -> Any:
        return self.method.validator(key, images, labels)

    def flops(self, batch: int, coreset: int) -> float:
        return self.method.flops(batch, coreset)
