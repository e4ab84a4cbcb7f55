"""sampler=loss_importance: images drawn in proportion to their loss, weighted to stay unbiased.

    p_i = (1 - gamma) l_i^a / sum_j l_j^a + gamma / n,   v_i = 1 / (n p_i) <= 1 / gamma

drawn with replacement, l_i being the loss under what has been distilled so far, scored over the
whole training set every `refresh` steps, or, with pool = r, in each step over r times as many
uniformly drawn images as the batch has (p then relative to the pool, which keeps the estimate
unbiased). After Tukan, Maalouf, Osadchy (arXiv 2307.08086); formulas ours. gamma = 1 is
sampler=uniform itself.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from distill_cli.config import Config as RunConfig
from distill_cli.config import at_least, within
from distill_cli.core.types import Batch
from distill_cli.train.batches import (
    ClassTable,
    TrainingSet,
    balanced_slots,
    rows_by_class,
    uniform_rows,
)
from distill_cli.train.samplers import uniform
from distill_cli.train.samplers.base import Stateless
from distill_cli.train.samplers.losses import LossModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """balanced: equal numbers of every class; gamma: share of uniform sampling; score_power: a;
    reweight: weights v_i, else 1 (a distorted training distribution, which chases label noise);
    refresh: steps between scorings; pool: candidates per image of the batch, null: score all;
    networks: random networks of the scoring regression."""

    name: str = "loss_importance"
    balanced: bool = False
    gamma: float = 0.5
    score_power: float = 1.0
    reweight: bool = True
    refresh: int = 10
    pool: int | None = None
    networks: int = 2

    def __post_init__(self) -> None:
        within("sampler.gamma", self.gamma, 0, 1)
        at_least("sampler.score_power", self.score_power, 0)
        at_least("sampler.refresh", self.refresh, 1)
        at_least("sampler.networks", self.networks, 1)
        if self.pool is not None:
            at_least("sampler.pool", self.pool, 1)


class State(NamedTuple):
    """Tables of (group, widest) entries, flat, one group for all or one for each class.

    share: p_i inside the group, 0 in the padding; reach: group + sum of the shares up to i;
    fallbacks: () groups that were drawn uniformly so far because their losses were unusable.
    """

    share: Array
    reach: Array
    fallbacks: Array


def shares(losses: Array, real: Array, gamma: float, power: float) -> tuple[Array, Array]:
    """(p, usable): probabilities along the last axis, 0 where not real; uniform where all losses
    are 0 or one is not finite (usable False)."""
    scores = jnp.where(real, jnp.maximum(losses, 0) ** power, 0)
    count = jnp.sum(real, -1, keepdims=True)
    total = jnp.sum(scores, -1, keepdims=True)
    usable = jnp.isfinite(total) & (total > 0)
    relative = jnp.where(usable, scores / jnp.where(usable, total, 1), 1 / jnp.maximum(count, 1))
    mixed = (1 - gamma) * jnp.where(real, relative, 0) + gamma / jnp.maximum(count, 1)
    return jnp.where(real, mixed, 0), usable[..., 0]


@dataclass(frozen=True, eq=False)
class LossImportance:
    """The Sampler that scores the whole training set every `refresh` steps."""

    config: Config
    model: LossModel
    size: int
    number: int
    refresh: int

    def groups(self, train: TrainingSet) -> ClassTable:
        """The images that compete with each other."""
        if self.config.balanced:
            return train.by_class
        n = train.labels.shape[0]
        return ClassTable(jnp.arange(n, dtype=jnp.int32)[None], jnp.full(1, n, jnp.int32))

    def init(self, train: TrainingSet) -> State:
        table = self.groups(train)
        return self.tables(jnp.ones(train.labels.shape[0], jnp.float64), table)[0]

    def tables(self, losses: Array, table: ClassTable) -> tuple[State, Array]:
        """(state, groups without usable losses) of losses (n,)."""
        groups, widest = table.rows.shape
        real = jnp.arange(widest)[None] < table.counts[:, None]
        share, usable = shares(losses[table.rows], real, self.config.gamma, self.config.score_power)
        reach = jnp.cumsum(share, axis=1)
        reach = reach / reach[:, -1:] + jnp.arange(groups)[:, None]
        unusable = jnp.sum(~usable, dtype=jnp.int32)
        return State(share.reshape(-1), reach.reshape(-1), jnp.zeros((), jnp.int32)), unusable

    def update(
        self, state: State, train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> tuple[State, dict[str, float]]:
        fresh, unusable, losses = self._scored(train, distilled, key)
        if int(unusable):
            log.warning("sampler=loss_importance: losses of %d groups are all 0 or not finite; "
                        "drawn uniformly", int(unusable))  # fmt: skip
        fallbacks = state.fallbacks + unusable
        table = self.groups(train)
        squares = jnp.sum(fresh.share.reshape(table.rows.shape) ** 2, axis=1)
        values = {
            "sampler_loss": float(jnp.mean(losses)),
            "sampler_effective": float(jnp.mean(1 / (table.counts * squares))),  # 1: uniform
            "sampler_fallbacks": float(fallbacks),
        }
        return fresh._replace(fallbacks=fallbacks), values

    @partial(jax.jit, static_argnames="self")
    def _scored(
        self, train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> tuple[State, Array, Array]:
        losses = self.model.of_all(distilled, key, train)
        return *self.tables(losses, self.groups(train)), losses

    def draw(self, state: State, train: TrainingSet, distilled: Any, key: PRNGKeyArray) -> Batch:
        del distilled
        table = self.groups(train)
        groups, widest = table.rows.shape
        size = min(self.size, train.labels.shape[0])

        def places(key: Any) -> Array:
            key_quota, key_rows = jax.random.split(key)
            group, _ = balanced_slots(key_quota, size, groups)
            wanted = group + jax.random.uniform(key_rows, (size,), jnp.float64)
            found = jnp.searchsorted(state.reach, wanted, side="right")
            first = group * widest
            return jnp.clip(found, first, first + table.counts[group] - 1)

        at = jax.vmap(places)(jax.random.split(key, self.number)).reshape(-1)
        weights = 1 / (table.counts[at // widest] * state.share[at])
        if not self.config.reweight:
            weights = jnp.ones_like(weights)
        return train.batch(table.rows.reshape(-1)[at], weights)


@dataclass(frozen=True, eq=False)
class Pooled(Stateless):
    """The Sampler that scores a fresh pool in every step; no state."""

    config: Config
    model: LossModel
    size: int
    number: int

    def draw(
        self, state: tuple[()], train: TrainingSet, distilled: Any, key: PRNGKeyArray
    ) -> Batch:
        del state
        n, config = train.labels.shape[0], self.config
        size, candidates = min(self.size, n), config.pool or 1
        groups = train.by_class.counts.shape[0] if config.balanced else 1
        key_score, key_pool, key_pick = jax.random.split(key, 3)

        def pool(key: Any) -> tuple[Array, Array]:
            key_quota, key_rows = jax.random.split(key)
            group, rank = balanced_slots(key_quota, size, groups)
            group = jnp.repeat(group, candidates)
            if not config.balanced:
                return group, uniform_rows(key_rows, n, min(size * candidates, n))
            rank = (rank[:, None] * candidates + jnp.arange(candidates)[None]).reshape(-1)
            most = -(-size // groups) * candidates
            return group, rows_by_class(key_rows, train.by_class, group, rank, most)

        group, rows = jax.vmap(pool)(jax.random.split(key_pool, self.number))
        group = group[:, : rows.shape[1]]
        losses = self.model.fitted(distilled, key_score, train.image_shape)
        flat = rows.reshape(-1)
        scores = losses(train.take(flat), train.labels[flat]).astype(jnp.float64)

        def pick(group: Array, scores: Array, key: Any) -> tuple[Array, Array]:
            """Places of one draw in its pool, and their weights 1 / (pool p)."""
            member = group[None] == jnp.arange(groups)[:, None]
            share = shares(scores[None], member, config.gamma, config.score_power)[0].sum(0)
            reach, held = jnp.cumsum(share), jnp.sum(member, 1)
            last = jnp.cumsum(held) - 1
            # As many picks of a group as its share of the pool, so that pool and batch agree.
            places = group[jnp.arange(size) * (group.shape[0] // size)]
            before = reach[last[places]] - 1
            wanted = before + jax.random.uniform(key, (size,), jnp.float64)
            found = jnp.searchsorted(reach, wanted, side="right")
            found = jnp.clip(found, last[places] - held[places] + 1, last[places])
            return found, 1 / (held[places] * share[found])

        keys = jax.random.split(key_pick, self.number)
        at, weights = jax.vmap(pick)(group, scores.reshape(rows.shape), keys)
        if not config.reweight:
            weights = jnp.ones_like(weights)
        chosen = jnp.take_along_axis(rows, at, axis=1).reshape(-1)
        return train.batch(chosen, weights.reshape(-1))


def make(config: Any, run: RunConfig, distiller: Any) -> Any:
    """The sampler of a configuration; gamma = 1 is uniform sampling bit for bit."""
    if config.gamma == 1:
        return uniform.make(config, run)
    model = LossModel(run, distiller, config.networks)
    if config.pool is not None:
        return Pooled(config, model, run.batch.size, run.batch.number)
    return LossImportance(config, model, run.batch.size, run.batch.number, config.refresh)
