"""Micro-batches: their size, and rows cut and put together again."""

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.arch.layers import convnet
from distill_cli.kernels.micro_batches import (
    cache_sized_micro,
    cut,
    in_micro_batches,
    micro_of_device,
    micro_pieces,
)


def test_micro_pieces_are_of_equal_size():
    for n in (1, 7, 100, 5120):
        for micro in (1, 3, 64, 3344, 10**6):
            pieces, each = micro_pieces(n, micro)
            assert each <= micro
            assert pieces * each >= n > (pieces - 1) * each or pieces * each - n < pieces
            assert pieces == -(-n // min(micro, n))


def test_cut_rows_are_put_together_again_whatever_the_size():
    """Rows that fill up the last piece take part in nothing, not even as 1 / 0."""
    rows = np.random.default_rng(0).normal(size=(7, 2, 3))
    weights = np.arange(1.0, 8.0)
    expected = rows.sum((1, 2)) / weights
    for micro in (None, 1, 2, 3, 7, 100):
        found = in_micro_batches(
            lambda x, w: x.sum((1, 2)) / w, micro, jnp.asarray(rows), jnp.asarray(weights)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-13)
    parts = cut(jnp.asarray(rows), *micro_pieces(7, 3))
    assert parts.shape == (3, 3, 2, 3)
    np.testing.assert_array_equal(parts.reshape(9, 2, 3), np.pad(rows, ((0, 2), (0, 0), (0, 0))))


def test_cache_sized_micro_is_bounded():
    assert cache_sized_micro(convnet(256, 3), (32, 32, 3)) == 8
    assert cache_sized_micro(convnet(32, 3), (28, 28, 1)) == 64
    assert cache_sized_micro(convnet(4096, 3), (64, 64, 3)) == 8


def test_large_activations_get_small_micro_batches_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert micro_of_device(convnet(256, 3), (32, 32, 3)) == 2560
    assert micro_of_device(convnet(256, 3), (64, 64, 3)) == 640
    assert micro_of_device(convnet(16, 3), (8, 8, 1)) == 5120
