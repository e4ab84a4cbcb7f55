"""Micro-batches: how many images have their activations in memory at once, and the cutting.

A batch of n images runs as `pieces` micro-batches of equal size, one after another, so that memory
is bounded by the size of one and not by n, and on a CPU the activations of one stay in the cache.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture, widest_activation


def in_micro_batches(
    function: Callable[..., Array], micro: int | None, *rows: Array
) -> Float[Array, "n ..."]:
    """function(*rows), (n, ...), computed at most `micro` rows at a time; rows are (n, ...)
    alike."""
    n = rows[0].shape[0]
    pieces, micro = micro_pieces(n, micro or n)
    if pieces == 1:
        return function(*rows)

    parts = tuple(cut(x, pieces, micro) for x in rows)
    found = lax.map(lambda part: function(*part), parts)
    return found.reshape(pieces * micro, *found.shape[2:])[:n]


def micro_pieces(n: int, micro: int) -> tuple[int, int]:
    """(pieces, images of each): n images in as few pieces of at most `micro` as there can be, of
    equal size, so that little is computed for nothing."""
    pieces = -(-n // max(1, min(micro, n)))
    return pieces, -(-n // pieces)


def cut(x: Float[Array, "n ..."], pieces: int, micro: int) -> Float[Array, "pieces micro ..."]:
    """The rows in pieces, filled up with zeros at the end."""
    padding = ((0, pieces * micro - x.shape[0]),) + ((0, 0),) * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(pieces, micro, *x.shape[1:])


def cache_sized_micro(architecture: Architecture, image_shape: tuple[int, int, int]) -> int:
    """Images per micro-batch whose largest activation is about 8 MB of float32.

    Measured best on CPUs for 32 to 256 channels: larger blocks fall out of the cache (half the
    rate), smaller ones starve the matrix kernels.
    """
    widest = widest_activation(architecture, image_shape)
    return max(8, min(1024, 2 ** ((8 * 2**20 // (4 * widest)).bit_length() - 1)))


def micro_of_device(architecture: Architecture, image_shape: tuple[int, int, int]) -> int:
    """Images per micro-batch where the user names none.

    On a CPU `cache_sized_micro`. On an accelerator as many as keep the largest activation at
    2.5 GiB of float32, at most 5120: 2560 of 32 x 32 and 640 of 64 x 64 at 256 channels. There each
    network and micro-batch costs some twenty small launches, which larger micro-batches share.
    """
    if jax.default_backend() == "cpu":
        return cache_sized_micro(architecture, image_shape)
    widest = widest_activation(architecture, image_shape)
    return max(8, min(5120, int(2.5 * 2**30) // (4 * widest)))
