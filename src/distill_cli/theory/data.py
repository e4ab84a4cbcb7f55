"""Real data of a multi-index task, drawn in blocks from keys and never stored whole.

Block i of a stream depends on (seed, stream, i) alone, so a point is the same whatever is asked
for, the first N points of a stream are a subset of it, and n = 10^6 points of d = 300 take the
memory of one block.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.core.keys import named_key, step_key
from distill_cli.theory.links import Link, orthonormal
from distill_cli.theory.network import first_layer_gradient

BLOCK = 4096  # points drawn at a time; part of what a seed means


class Task(NamedTuple):
    """A target: seed, link, noise and the true directions theta (d, r)."""

    seed: int
    link: Link
    noise: float
    theta: Float[Array, "d r"]


def make_task(seed: int, link: Link, noise: float, d: int) -> Task:
    """The task of a seed."""
    theta = orthonormal(named_key(seed, "theory directions"), d, len(link.hessian))
    return Task(seed, link, noise, theta)


class Stream(NamedTuple):
    """n points of a task's named stream; `name` separates training, readout and test points."""

    task: Task
    name: str
    n: int

    @property
    def key(self) -> PRNGKeyArray:
        return named_key(self.task.seed, f"theory {self.name}")

    @property
    def blocks(self) -> int:
        return (self.n + BLOCK - 1) // BLOCK


def draw(
    link: Link, noise: float, theta: Float[Array, "d r"], key: PRNGKeyArray, i: Array | int
) -> tuple[Float[Array, "block d"], Float[Array, "block"]]:
    """Block i: x ~ N(0, I_d) and y = f*(x) + noise N(0, 1)."""
    kx, kn = jax.random.split(step_key(key, i))
    x = jax.random.normal(kx, (BLOCK, theta.shape[0]), jnp.float32)
    y = link.value(x @ theta)
    return x, y + noise * jax.random.normal(kn, (BLOCK,), jnp.float32)


@partial(jax.jit, static_argnames=("link", "noise"))
def _draw(link, noise, theta, key, i):
    return draw(link, noise, theta, key, i)


def points(stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """All n points: x (n, d), y (n,) float32. For readouts and tests, not for the n of training."""
    task = stream.task
    drawn = [_draw(task.link, task.noise, task.theta, stream.key, i) for i in range(stream.blocks)]
    x = np.concatenate([np.asarray(x) for x, _ in drawn])[: stream.n]
    return x, np.concatenate([np.asarray(y) for _, y in drawn])[: stream.n]


class Affine(NamedTuple):
    """alpha = mean(y), beta = mean((y - alpha) x): subtracted before distilling, added back by the
    predictor (Damian, Lee, Soltanolkotabi 2022)."""

    alpha: Float[Array, ""]
    beta: Float[Array, "d"]

    def of(self, x: Float[Array, "n d"]) -> Float[Array, "n"]:
        """alpha + <beta, x>."""
        return self.alpha + x @ self.beta


@partial(jax.jit, static_argnames=("link", "noise"))
def _affine(link, noise, n, theta, key):
    d = theta.shape[0]

    def add(i, sums):
        x, y = draw(link, noise, theta, key, i)
        w = in_stream(i, n)
        new = (jnp.sum(w * y), w @ x, (w * y) @ x)
        return tuple(s + v.astype(jnp.float64) for s, v in zip(sums, new, strict=True))

    zero = (jnp.zeros((), jnp.float64), jnp.zeros(d, jnp.float64), jnp.zeros(d, jnp.float64))
    sy, sx, syx = jax.lax.fori_loop(0, block_count(n), add, zero)
    alpha = sy / n
    beta = syx / n - alpha * sx / n
    return Affine(alpha.astype(jnp.float32), beta.astype(jnp.float32))


def affine(stream: Stream) -> Affine:
    """alpha and beta of a stream; sums accumulate in float64."""
    task = stream.task
    return _affine(task.link, task.noise, stream.n, task.theta, stream.key)


def block_count(n: Array | int) -> Array | int:
    """Blocks that hold n points."""
    return (n + BLOCK - 1) // BLOCK


def in_stream(i: Array | int, n: Array | int) -> Float[Array, "block"]:
    """1 for points of block i that belong to the first n, else 0."""
    return (i * BLOCK + jnp.arange(BLOCK) < n).astype(jnp.float32)


@partial(jax.jit, static_argnames=("link", "noise", "n"))
def _residuals(link, noise, n, theta, key, line):
    def block(i: Array) -> Array:
        x, y = draw(link, noise, theta, key, i)
        return y - line.of(x)

    return jax.lax.map(block, jnp.arange(block_count(n))).reshape(-1)[:n]


@partial(jax.jit, static_argnames=("link", "noise"))
def _gradient(link, noise, n, theta, key, rows, line, residuals):
    # n is not static: one compilation serves every number of points.
    def add(i, total):
        x, y = draw(link, noise, theta, key, i)
        left = y - line.of(x) if residuals is None else residuals[i]
        part = first_layer_gradient(rows, x, left * in_stream(i, n))
        return total + part.astype(jnp.float64)

    total = jax.lax.fori_loop(0, block_count(n), add, jnp.zeros(rows.shape, jnp.float64))
    return (total * (BLOCK / n)).astype(jnp.float32)


def real_gradient(
    stream: Stream, line: Affine, rows: Float[Array, "P d"], shuffled: bool = False
) -> Float[Array, "P d"]:
    """g(w) of each row on the stream's residuals y - alpha - <beta, x>, block after block.

    Memory: one block times the number of rows, whatever n is. shuffled permutes the residuals
    among the points first (a control).
    """
    task = stream.task
    residuals = None
    if shuffled:
        found = _residuals(task.link, task.noise, stream.n, task.theta, stream.key, line)
        found = jax.random.permutation(named_key(task.seed, "theory shuffle"), found)
        residuals = jnp.pad(found, (0, stream.blocks * BLOCK - stream.n)).reshape(-1, BLOCK)
    where = (task.link, task.noise, stream.n, task.theta, stream.key)
    return _gradient(*where, rows, line, residuals)
