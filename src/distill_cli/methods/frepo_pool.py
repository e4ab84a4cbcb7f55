"""FRePo's pool: networks of different ages, one of which is used and trained at every step.

A member that was used makes one online step: Adam on

    1/2 mean_j ||f_theta(x_j) - y_j||^2      (sum over classes, mean over coreset images)

with the network's outputs f and the coreset as it is now; after `most` of them a fresh random
network takes its place (Zhou, Nezhadarya, Ba, NeurIPS 2022; released program). All members are one
pytree with a leading axis: weights, running statistics, Adam's moments, ages. So a pool is
checkpointed like any other state, and a step reads and writes one slice of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from distill_cli.core.types import Batch, Coreset
from distill_cli.kernels.micro_batches import in_micro_batches
from distill_cli.kernels.shares import NETWORK, Shares, map_shared, sum_shared
from distill_cli.nets import Net

ONLINE_IMAGES = 1000  # an online step sees at most this many coreset images (released program)
ACTIVATION_BYTES = 8 << 20  # of the first layer on one micro-batch on a CPU: what its cache holds


class Member(NamedTuple):
    """variables: {"params"} and, with norm=batch, {"batch_stats"}; adam: its moments; age: online
    steps made, int32. A pool is a Member whose leaves have a leading axis."""

    variables: Any
    adam: Any
    age: Int[Array, "*pool"]


@dataclass(frozen=True)
class OnlineNetworks:
    """The networks of a pool and how they are trained; holds no weights.

    rate: Adam's, constant; most: online steps until a member is replaced; late: one more, as the
    released program's test "age > most" has it.
    """

    net: Net
    image_shape: tuple[int, int, int]
    rate: float
    most: int
    late: bool = False

    @property
    def optimiser(self) -> optax.GradientTransformation:
        return optax.chain(adam_direction(), optax.scale_by_learning_rate(self.rate))

    def fresh(self, key: PRNGKeyArray) -> Member:
        """A random network of age 0; running statistics start at mean 0 and variance 1."""
        variables = self.net.init(key, jnp.zeros((1, *self.image_shape), jnp.float32))
        adam = self.optimiser.init(variables["params"])
        return Member(dict(variables), adam, jnp.zeros((), jnp.int32))

    def pool(self, key: PRNGKeyArray, size: int) -> Member:
        """`size` random members; only their ages are spread, member i has floor(most/size) i."""
        ages = jnp.arange(size, dtype=jnp.int32) * (self.most // size)
        return _draw(self, jax.random.split(key, size))._replace(age=ages)

    def features(
        self, variables: Any, x: Float[Array, "n h w c"], micro: int | None = None
    ) -> Float[Array, "n feature"]:
        """h(x) with running statistics, `micro` images at a time (None: all at once)."""

        def one(x: Array) -> Array:
            return jnp.asarray(self.net.apply(variables, x, method="features"))

        return in_micro_batches(one, micro, x)

    def online_step(self, member: Member, coreset: Coreset, key: PRNGKeyArray) -> Member:
        """One Adam update on the whole coreset, or on ONLINE_IMAGES random images of it."""
        images, labels = shown(coreset, key)

        def loss(params: Any) -> tuple[Array, Any]:
            variables = {**member.variables, "params": params}
            outputs, statistics = self.net.apply(
                variables, images, train=True, mutable=["batch_stats"]
            )
            return 0.5 * jnp.mean(jnp.sum((outputs - labels) ** 2, -1)), statistics

        params = member.variables["params"]
        gradient, statistics = jax.grad(loss, has_aux=True)(params)
        updates, adam = self.optimiser.update(gradient, member.adam, params)
        variables = {"params": optax.apply_updates(params, updates), **statistics}
        return Member(variables, adam, member.age + 1)

    def worn(self, age: Int[Array, "*pool"]) -> Array:
        """Whether a member of this age is to be replaced."""
        return age > self.most if self.late else age >= self.most

    def maintain(self, member: Member, coreset: Coreset, key: PRNGKeyArray) -> Member:
        """What takes the place of a member that was used: itself one online step older, or a fresh
        network."""
        return lax.cond(
            self.worn(member.age),
            lambda: self.fresh(key),
            lambda: self.online_step(member, coreset, key),
        )

    def trained(self, key: PRNGKeyArray, coreset: Coreset, updates: int) -> Any:
        """Variables of a fresh network after `updates` online steps on one coreset."""

        def body(step: Array, member: Member) -> Member:
            return self.online_step(member, coreset, jax.random.fold_in(key, step))

        return lax.fori_loop(0, updates, body, self.fresh(key)).variables


def adam_direction() -> optax.GradientTransformation:
    """optax.scale_by_adam, m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8), with the first two
    quotients as products: XLA joins quotients of quotients in programs for several devices and not
    in programs for one, which then round otherwise."""
    decays, eps = (0.9, 0.999), 1e-8
    adam = optax.scale_by_adam(*decays, eps)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        _, state = adam.update(updates, state, params)
        m, v = (1 / jnp.asarray(1 - decay**state.count, jnp.float32) for decay in decays)
        direction = jax.tree.map(lambda a, b: a * m / (jnp.sqrt(b * v) + eps), state.mu, state.nu)
        return direction, state

    return optax.GradientTransformation(adam.init, update)


def shown(coreset: Coreset, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Images and labels that an online step sees, drawn without replacement."""
    images, labels = coreset.images, coreset.labels
    if images.shape[0] > ONLINE_IMAGES:
        rows = jax.random.permutation(key, images.shape[0])[:ONLINE_IMAGES]
        images, labels = images[rows], labels[rows]
    return images, labels


@dataclass(frozen=True)
class Turn:
    """The members that one step uses, inside `shares.spread`: each device takes its share of them,
    and all get the same results.

    indices: their different places in the pool; keys: one of each member.
    """

    networks: OnlineNetworks
    indices: Int[Array, " member"]
    keys: PRNGKeyArray
    shares: Shares

    @classmethod
    def draw(
        cls, networks: OnlineNetworks, key: PRNGKeyArray, pool: int, members: int, shares: Shares
    ) -> "Turn":
        """`members` of `pool` at random, without replacement."""
        draw_key, online_key = jax.random.split(key)
        if members == 1:
            index = jax.random.randint(draw_key, (), 0, pool, jnp.int32)
            return cls(networks, index[None], online_key[None], shares)
        order = jax.random.permutation(draw_key, jnp.arange(pool, dtype=jnp.int32))
        return cls(networks, order[:members], jax.random.split(online_key, members), shares)

    def mean(self, function: Callable[[Any, Batch], Any], pool: Member, batch: Batch) -> Any:
        """Mean over the members of function(variables, part of the batch), each with a part of its
        own of the batch: every count-th image; what does not divide is left out."""
        count = self.indices.shape[0]
        parts = [x[: len(x) // count * count].reshape(-1, count, *x.shape[1:]) for x in batch]

        def of_member(number: Array) -> Any:
            part = Batch(*(x[:, number] for x in parts))
            return function(take(pool, self.indices[number]).variables, part)

        total = sum_shared(self.shares, NETWORK, of_member, jnp.arange(count))
        return jax.tree.map(lambda x: x / count, total)

    def maintained(self, pool: Member, coreset: Coreset) -> Member:
        """The pool with each of the members one online step older, or replaced."""

        def of_member(number: Array) -> Member:
            member = take(pool, self.indices[number])
            return self.networks.maintain(member, coreset, self.keys[number])

        numbers = jnp.arange(self.indices.shape[0])
        members = map_shared(self.shares, NETWORK, of_member, numbers)
        for number in range(self.indices.shape[0]):
            pool = put(pool, self.indices[number], take(members, number))
        return pool


@partial(jax.jit, static_argnums=0)
def _draw(networks: OnlineNetworks, keys: Array) -> Member:
    return lax.map(networks.fresh, keys)


def take(pool: Member, index: Int[Array, ""] | int) -> Member:
    """Member `index` of a pool."""
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, index, keepdims=False), pool)


def put(pool: Member, index: Int[Array, ""], member: Member) -> Member:
    """The pool with another member in one place."""
    return jax.tree.map(
        lambda a, new: lax.dynamic_update_index_in_dim(a, new, index, 0), pool, member
    )


def forward_flops(networks: OnlineNetworks) -> float:
    """Multiplications and additions of one network on one image, as XLA counts them."""
    image = jax.ShapeDtypeStruct((1, *networks.image_shape), jnp.float32)
    variables = jax.eval_shape(networks.net.init, jax.random.key(0), image)
    cost: Any = jax.jit(networks.net.apply).lower(variables, image).cost_analysis()
    return float(cost["flops"])


def micro_batch(first_width: int, image_shape: tuple[int, int, int], size: int) -> int:
    """Images of a batch of `size` to compute at once on a CPU, in pieces of one size."""
    bytes_each = 4 * image_shape[0] * image_shape[1] * first_width
    return math.ceil(size / math.ceil(size * bytes_each / ACTIVATION_BYTES))
