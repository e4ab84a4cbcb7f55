"""Checks 1 to 3 of the reference: gradients against closed forms and population formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import theory_closed_forms as closed_forms

from distill_cli.theory import data, distillation, network
from distill_cli.theory.distillation import D1
from distill_cli.theory.links import resolve


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_population_gradient_of_the_quad_link():
    d, r = 10, 2
    link = resolve("quad", r)
    stream = data.Stream(data.make_task(0, link, 0.1, d), "training", 1_000_000)
    w = network.unit_rows(jax.random.key(1), 64, d)
    found = np.asarray(data.real_gradient(stream, data.affine(stream), w), np.float64)
    theta = np.asarray(stream.task.theta, np.float64)
    expected = np.asarray(network.population_gradient(w, theta @ link.matrix @ theta.T))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_one_step_against_its_population_formula():
    d, rows = 8, 400_000
    h = np.diag([1.0, -0.5, 0.3] + [0.0] * (d - 3))
    starts = normal(2, 3, d)
    total, chunks = 0.0, 5
    for chunk in range(chunks):
        w = np.asarray(network.unit_rows(jax.random.key(chunk), rows, d))
        g = np.asarray(network.population_gradient(w, h))
        total = total + np.asarray(distillation.one_step(starts, w, g), np.float64) / chunks
    for x, found in zip(starts, total, strict=True):
        expected = closed_forms.population_one_step(x / np.linalg.norm(x), h)
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_of_the_matching_loss_equal_the_closed_forms(seed):
    with jax.default_matmul_precision("highest"):
        m, b, d = 6, 40, 7
        x, y, w, g = (normal(seed + k, *s) for k, s in enumerate([(m, d), (m,), (b, d), (b, d)]))
        found = jax.grad(distillation.matching_loss)(D1(jnp.array(x), jnp.array(y)), w, g)
    for a, e in zip(found, closed_forms.matching_gradients(x, y, w, g), strict=True):
        assert np.linalg.norm(a - e) < 1e-5 * np.linalg.norm(e)


def test_first_layer_gradient_is_that_of_the_squared_loss_of_the_paired_network():
    half, signs = network.initial(jax.random.key(0), 12, 5)
    x, y = normal(1, 50, 5), normal(2, 50)
    w, a = jnp.concatenate([half, half]), jnp.concatenate([signs, -signs])
    assert np.allclose(network.output(w, a, jnp.zeros(12), x), 0, atol=1e-6)
    found = jax.grad(network.squared_loss)(w, a, x, y)
    g = network.first_layer_gradient(w, x, y)
    assert np.allclose(found, -a[:, None] * g, atol=1e-6)
    assert np.allclose(g, closed_forms.gradient(w, x, y), atol=1e-6)


def test_one_step_equals_its_closed_form_and_pairs_add_up_to_the_mean_gradient():
    w, g = normal(0, 200, 6), normal(1, 200, 6)
    half = normal(2, 4, 6)
    start = np.concatenate([half, -half])
    found = np.asarray(distillation.one_step(start, w, g))
    assert np.allclose(found, closed_forms.one_step(start, w, g), atol=1e-5)
    assert np.allclose(found[:4] + found[4:], g.mean(0), atol=1e-5)


def test_sign_labels_follow_the_curvature():
    h = np.diag([1.0, -1.0, 0, 0, 0, 0])
    w = network.unit_rows(jax.random.key(0), 5000, 6)
    g = network.population_gradient(w, h)
    x = jnp.array([[1.0, 0.1, 0, 0, 0, 0], [0.1, 1.0, 0, 0, 0, 0]])
    assert distillation.sign_labels(x, w, g).tolist() == [1.0, -1.0]


def test_trained_rows_have_the_norm_asked_for():
    _, signs = network.initial(jax.random.key(0), 40, 5)
    rows = network.trained_rows(signs, normal(0, 20, 5), 3.0)
    assert np.mean(np.sum(np.asarray(rows) ** 2, 1)) == pytest.approx(9.0, rel=1e-5)
    assert np.array_equal(rows[:20], -rows[20:])


def test_real_gradient_ignores_points_beyond_n_and_subsets_are_prefixes():
    task = data.make_task(3, resolve("mix", 2), 0.1, 6)
    small, large = (data.Stream(task, "training", n) for n in (100, 5000))
    x, y = data.points(large)
    xs, ys = data.points(small)
    assert np.array_equal(x[:100], xs) and np.array_equal(y[:100], ys)
    for stream in (small, large):
        n = stream.n
        line = data.affine(stream)
        alpha = y[:n].mean(dtype=np.float64)
        beta = ((y[:n] - alpha)[:, None].astype(np.float64) * x[:n]).mean(0)
        assert float(line.alpha) == pytest.approx(alpha, abs=1e-6)
        assert np.allclose(line.beta, beta, atol=1e-6)
        w = normal(0, 9, 6)
        expected = closed_forms.gradient(w, x[:n], y[:n] - alpha - x[:n] @ beta)
        assert np.allclose(data.real_gradient(stream, line, w), expected, atol=1e-5)


def test_shuffling_keeps_the_labels_but_not_their_points():
    task = data.make_task(0, resolve("quad", 2), 0.0, 5)
    stream = data.Stream(task, "training", 60_000)
    line, w = data.affine(stream), network.unit_rows(jax.random.key(0), 30, 5)
    true, mixed = (
        np.linalg.norm(data.real_gradient(stream, line, w, shuffled)) for shuffled in (False, True)
    )
    assert mixed < 0.2 * true
