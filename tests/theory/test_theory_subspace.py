"""Gradient outer products and concentration against closed forms and known targets."""

import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.theory import subspace
from distill_cli.theory.metrics import overlap
from distill_cli.theory.subspace import Network, SubspaceConfig

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_gradient_outer_product_equals_its_closed_form():
    net = Network(normal(9, 6), normal(9), normal(3, 9), normal(3))
    x = normal(300, 6)
    total = np.zeros((6, 6))
    for point in x.astype(np.float64):
        jacobian = (net.w2 * (net.w1 @ point + net.b1 > 0)) @ net.w1
        total += jacobian.T @ jacobian
    found = subspace.gradient_outer_product(net, x)
    assert np.allclose(found, total / len(x), rtol=1e-4, atol=1e-4)


def test_a_trained_network_reveals_the_directions_of_its_task():
    d, directions = 20, np.linalg.qr(RNG.standard_normal((20, 2)))[0].astype(np.float32)
    x = normal(4000, d)
    z = x @ directions
    y = (2 * (z[:, 0] > 0) + (z[:, 1] > 0)).astype(np.int32)
    config = SubspaceConfig(width=64, steps=600)
    net = subspace.train(config, 4, 0, jnp.asarray(x), jnp.asarray(y))
    v = subspace.leading(subspace.gradient_outer_product(net, x[:500]), 2)
    assert overlap(v.T, directions) > 0.95
    inside = normal(30, 2) @ directions.T
    found = subspace.concentration(inside, v)
    assert found["energy"] > 0.9 and found["top_k"] == pytest.approx(1)
    noise = subspace.concentration(normal(30, d), v)
    assert noise["energy"] < 0.3


def test_concentration_counts_directions():
    points = np.eye(12)[:5]
    found = subspace.concentration(points, np.eye(12)[:, :3])
    assert found["dimension"] == pytest.approx(5)
    assert found["energy"] == pytest.approx(3 / 5) and found["top_k"] == pytest.approx(3 / 5)


def test_random_images_like_real_ones_have_their_covariance():
    real = normal(500, 4) @ np.diag([3, 2, 1, 0.1]).astype(np.float32)
    drawn = subspace.like_real(np.random.default_rng(1), real, 40_000).astype(np.float64)
    assert np.allclose(drawn.T @ drawn / 40_000, real.T @ real / 500, atol=0.3)
