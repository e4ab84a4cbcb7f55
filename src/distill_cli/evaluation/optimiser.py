"""The optimisers and learning-rate schedules of the protocols.

Written out, because a schedule that restarts the momentum is not in optax and the learning rate of
kip_finite is known only once the network is there.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Params = Any


@dataclass(frozen=True)
class Optimiser:
    """momentum: v <- momentum v + g + weight_decay theta; theta <- theta - rate v. adam: Adam with
    0.9, 0.999, 1e-8.

    The rate is the base rate times a share:
        constant
        drop     1, and 0.1 from step drop_at on, where the momentum starts again from 0
        cosine   linear from 0 to 1 over `warmup` steps, then half a cosine down to `floor`
    """

    kind: Literal["momentum", "adam"]
    schedule_kind: Literal["constant", "drop", "cosine"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 0.0
    drop_at: int = 0
    warmup: int = 0
    floor: float = 0.0

    def start(self, params: Params) -> Any:
        """Moments before the first step."""
        if self.kind == "adam":
            return optax.scale_by_adam().init(params)
        return jax.tree.map(jnp.zeros_like, params)

    def schedule(self, step: Array, steps: int) -> Float[Array, ""]:
        """Share of the base learning rate at a step, float32."""
        step = jnp.asarray(step, jnp.float32)
        if self.schedule_kind == "constant":
            return jnp.ones((), jnp.float32)
        if self.schedule_kind == "drop":
            return jnp.where(step < self.drop_at, 1.0, 0.1).astype(jnp.float32)
        rising = step / max(self.warmup, 1)
        passed = jnp.clip((step - self.warmup) / max(steps - self.warmup, 1), 0, 1)
        falling = self.floor + (1 - self.floor) * 0.5 * (1 + jnp.cos(jnp.pi * passed))
        return jnp.where(step < self.warmup, rising, falling).astype(jnp.float32)

    def update(
        self, gradient: Params, moments: Any, params: Params, step: Array, rate: Array
    ) -> tuple[Params, Any]:
        """(new params, new moments); `rate` includes the share of the schedule."""
        if self.weight_decay:
            gradient = jax.tree.map(lambda g, p: g + self.weight_decay * p, gradient, params)
        if self.kind == "adam":
            direction, moments = optax.scale_by_adam().update(gradient, moments)
        else:
            kept = self.momentum
            if self.schedule_kind == "drop":
                kept = jnp.where(step == self.drop_at, 0.0, self.momentum).astype(jnp.float32)
            moments = jax.tree.map(lambda v, g: kept * v + g, moments, gradient)
            direction = moments
        return jax.tree.map(lambda p, d: p - rate * d, params, direction), moments
