"""average=ema, against the sum written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.methods.averaged import Averaged
from sampler_problem import Mean, distiller, parsed, start, training


def test_mean_of_all_steps():
    """(1 - d) sum_t d^(T - t) S_t / (1 - d^T), images, labels and temperature."""
    decay, steps = 0.8, 5
    plain = distiller(parsed("labels=learned"))
    method = Averaged(plain, decay)
    train, key = training(), jax.random.key(3)
    batch = train.batch(jnp.arange(24), jnp.ones(24))
    state, own = method.init(key, start()), plain.init(key, start())
    jax.tree.map(np.testing.assert_array_equal, method.coreset(state), plain.coreset(own))
    seen, step, own_step = [], jax.jit(method.step), jax.jit(plain.step)
    for number in range(steps):
        state, info = step(state, batch, jax.random.key(number))
        own, own_info = own_step(own, batch, jax.random.key(number))
        seen.append([np.asarray(part, np.float64) for part in plain.coreset(own)])
        np.testing.assert_allclose(info["loss"], own_info["loss"], rtol=1e-6)
    weights = (1 - decay) * decay ** np.arange(steps - 1, -1, -1) / (1 - decay**steps)
    for found, parts in zip(method.coreset(state), zip(*seen, strict=True), strict=True):
        wanted = sum(w * part for w, part in zip(weights, parts, strict=True))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert np.abs(wanted - parts[-1]).max() > 1e-5  # it is not the last coreset


def test_the_method_shows_through():
    """What a method says of itself, and its losses of its own state."""
    method = Averaged(Mean(), 0.9)
    state = method.init(jax.random.key(0), start())
    images, labels = training().images, training().labels
    own = Mean().losses(state.method, images, labels, jax.random.key(0))
    np.testing.assert_array_equal(method.losses(state, images, labels, jax.random.key(0)), own)
    plain = distiller(parsed())
    assert not hasattr(Averaged(plain, 0.9), "losses")
    assert Averaged(plain, 0.9).shares is plain.shares
    assert Averaged(plain, 0.9).flops(10, 3) == plain.flops(10, 3)


def test_made_from_the_configuration():
    assert isinstance(distiller(parsed("average=ema")), Averaged)
    assert not isinstance(distiller(parsed()), Averaged)
