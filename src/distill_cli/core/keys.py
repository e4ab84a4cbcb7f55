"""Random keys that depend on (seed, name, step) alone, so that a resumed run repeats itself."""

import zlib

import jax
from jaxtyping import Array, Int, PRNGKeyArray


def named_key(seed: int, name: str) -> PRNGKeyArray:
    """The root key of one source of randomness, e.g. named_key(seed, "networks").

    Names are hashed with CRC-32, which unlike Python's hash() is the same in every process.
    """
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def step_key(root: PRNGKeyArray, step: Int[Array, ""] | int) -> PRNGKeyArray:
    """The key of one step: fold_in(root, step)."""
    return jax.random.fold_in(root, step)
