"""Label Solve: the labels that fit the training set best, for images that stay as they are.

Nguyen, Chen, Lee, ICLR 2021 (arXiv 2011.00050), in the regularised form of the authors' notebook:

    y_s = (K_ss + e I) (K_st K_ts + e I)^-1 K_st y_t,    e = 1e-6 / |S|

with t the whole training set. It is the minimum of the mean squared error of kernel regression over
y_s. Only the sums K_st K_ts and K_st y_t are kept, added up batch by batch in float64, so that the
training set may have any size and an interrupted pass goes on where it was. One pass is the whole
method.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from distill_cli.core.linalg import Reg, krr_predict, krr_solve
from distill_cli.core.losses import mse
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.kernels import EXACT_KERNELS
from distill_cli.kernels.exact_kernel import ExactKernel, make_exact_kernel
from distill_cli.methods.base import Info, Setting, Validator
from distill_cli.methods.krr import kernel_score

# config.py check_combination
ALLOWS = {
    "kernel": EXACT_KERNELS, "labels": ("learned",), "loss": ("mse",), "sampler": ("sequential",),
    "schedule": ("constant",), "average": ("none",),
}  # fmt: skip
GROWS = ()  # one pass, in batches of one size


@dataclass(frozen=True)
class Config:
    """ridge: relative to trace(K_ss)/n, of the validation score and the evaluation; regularisation:
    e |S| above, absolute as in the notebook."""

    name: str = "label_solve"
    ridge: float = 1e-6
    regularisation: float = 1e-6

    def __post_init__(self) -> None:
        for key in ("ridge", "regularisation"):
            if not getattr(self, key) > 0:
                raise UserError(f"method.{key}={getattr(self, key)}: must be above 0")


class State(NamedTuple):
    """start: the initial coreset; k_ss (n, n); products: K_st K_ts (n, n); targets: K_st y_t
    (n, class), all float64; seen: training images so far (sampler=sequential reads it)."""

    start: Coreset
    k_ss: Float[Array, "n n"]
    products: Float[Array, "n n"]
    targets: Float[Array, "n class"]
    seen: Int[Array, ""]


@dataclass(frozen=True)
class LabelSolve:
    """The Distiller of one pass over the training set."""

    config: Config
    kernel: ExactKernel
    image_shape: tuple[int, int, int]
    reg: Reg

    def steps(self, wanted: int, images: int, batch: int) -> int:
        """Steps of one pass: the run ends there (see methods/base.py steps_of)."""
        return min(wanted, math.ceil(images / batch))

    def init(self, key: PRNGKeyArray, coreset: Coreset) -> State:
        del key
        n, classes = coreset.labels.shape
        k_ss = self.kernel.gram(coreset.images).astype(jnp.float64)
        zeros = jnp.zeros((n, n), jnp.float64)
        start = coreset._replace(log_temperature=coreset.log_temperature.astype(jnp.float64))
        return State(start, k_ss, zeros, jnp.zeros((n, classes), jnp.float64), jnp.int32(0))

    def step(self, state: State, batch: Batch, key: PRNGKeyArray) -> tuple[State, Info]:
        del key
        k_ts = self.kernel.gram(batch.images, state.start.images).astype(jnp.float64)
        y_t = one_hot_centred(batch.labels, state.start.labels.shape[1]).astype(jnp.float64)
        weighted = k_ts * batch.weights.astype(jnp.float64)[:, None]
        state = state._replace(
            products=state.products + weighted.T @ k_ts,
            targets=state.targets + weighted.T @ y_t,
            seen=state.seen + jnp.sum(batch.weights > 0, dtype=jnp.int32),
        )
        outputs = krr_predict(k_ts, krr_solve(state.k_ss, self.labels(state), self.reg))
        losses = mse(outputs, batch.labels, state.start.log_temperature)
        counted = batch.weights.sum()
        hits = (jnp.argmax(outputs, -1) == batch.labels) * batch.weights
        return state, {
            "loss": jnp.sum(losses * batch.weights) / counted,
            "accuracy": jnp.sum(hits) / counted,
        }

    def labels(self, state: State) -> Float[Array, "n class"]:
        """y_s of the training images seen so far; the initial labels before the first."""
        n = state.k_ss.shape[0]
        e = self.config.regularisation / n * jnp.eye(n, dtype=jnp.float64)
        factor = jax.scipy.linalg.cho_factor(state.products + e, lower=True)
        solved = (state.k_ss + e) @ jax.scipy.linalg.cho_solve(factor, state.targets)
        return jnp.where(state.seen > 0, solved, state.start.labels)

    def coreset(self, state: State) -> Coreset:
        return state.start._replace(labels=self.labels(state).astype(state.start.labels.dtype))

    def validator(self, key: PRNGKeyArray, images: Array, labels: Array) -> Validator:
        del key
        return kernel_score(self.kernel.gram, images, labels, loss=mse, reg=self.reg)

    def flops(self, batch: int, coreset: int) -> float:
        return self.kernel.flops(batch * coreset, self.image_shape) / 4

    def bytes_moved(self, batch: int, coreset: int) -> float:
        """Of a step on an accelerator: values without a gradient (train/loop.py chunk_length)."""
        return self.kernel.bytes_moved(batch * coreset, self.image_shape) / 4


def make(setting: Setting) -> LabelSolve:
    """Label Solve bound to a setting."""
    config = setting.config
    kernel = make_exact_kernel(setting.architecture, config.kernel)
    kernel.check_fits(setting.image_shape)
    return LabelSolve(config.method, kernel, setting.image_shape, setting.reg)
