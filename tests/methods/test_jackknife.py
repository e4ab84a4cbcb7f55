"""method.jackknife: the estimate and its gradient against NumPy and autodiff of the formula, and
that it takes the error of few networks away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.losses import LOSSES
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.errors import UserError
from distill_cli.kernels.ensemble import Ensemble
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.methods.jackknife import jackknife, means_of, weights_of
from distill_cli.methods.krr import krr_value_and_grad
from sampler_problem import distiller, parsed

SHAPE, REG = (8, 8, 1), 5e-3
RNG = np.random.default_rng(0)


def problem(coreset: int = 6, batch: int = 10) -> tuple[Coreset, Batch]:
    images = jnp.asarray(RNG.normal(size=(coreset, *SHAPE)), jnp.float32)
    labels = one_hot_centred(jnp.arange(coreset) % 3, 3)
    targets = jnp.asarray(RNG.normal(size=(batch, *SHAPE)), jnp.float32)
    weights = jnp.asarray(RNG.uniform(0.5, 1.5, batch), jnp.float32)
    start = Coreset(images, labels, jnp.asarray(1.0, jnp.float64))
    return start, Batch(targets, jnp.arange(batch) % 3, weights)


@pytest.mark.parametrize(("networks", "share"), [(2, 1.0), (4, 1.0), (4, 0.25)])
@pytest.mark.parametrize("loss", ["platt", "mse"])
def test_against_the_formula(networks, share, loss):
    """J_share and its gradient of images, labels and temperature, in float64; micro-batches that do
    not divide the batch."""
    kernel = RandomFeatureKernel(convnet(8, 2), SHAPE, networks, "float32")
    ensemble, (coreset, batch) = Ensemble(kernel), problem()
    coreset = Coreset(*(part.astype(jnp.float64) for part in coreset))
    batch = batch._replace(images=batch.images.astype(jnp.float64))
    drawn = ensemble.sample(jax.random.key(0))

    def featurise(x):
        return ensemble.features(drawn, x, 128)

    info, found = krr_value_and_grad(
        featurise, ensemble.grams, coreset, batch,
        loss=LOSSES[loss], reg=REG, micro=4, regression=jackknife(share),
    )  # fmt: skip

    def formula(coreset):
        h_s, h_t = featurise(coreset.images), featurise(batch.images)

        def of(members):
            part = np.array(members)
            k = [
                (2 * jnp.einsum("mid,mjd->ij", a[part], h_s[part], precision="highest"))
                .astype(jnp.float64) / (len(part) * h_s.shape[-1]) + 0.01
                for a in (h_s, h_t)
            ]  # fmt: skip
            outputs = krr_predict(k[1], krr_solve(k[0], coreset.labels, REG))
            losses = LOSSES[loss](outputs, batch.labels, coreset.log_temperature)
            return jnp.sum(batch.weights * losses) / len(batch.labels)

        every = range(networks)
        rest = sum(of([i for i in every if i != out]) for out in every)
        loss_of_all = of(list(every))
        whole = networks * loss_of_all - (networks - 1) / networks * rest
        return loss_of_all + share * (whole - loss_of_all)

    value, wanted = jax.value_and_grad(formula)(coreset)
    np.testing.assert_allclose(info["loss"], value, rtol=1e-10)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max() + 1e-15)


def test_networks_kernels_have_the_kernel_as_their_mean():
    kernel = RandomFeatureKernel(convnet(8, 2), SHAPE, 5, "float32")
    ensemble, (coreset, batch) = Ensemble(kernel), problem()
    drawn = ensemble.sample(jax.random.key(0))
    h_s, h_t = (ensemble.features(drawn, x, 128) for x in (coreset.images, batch.images))
    single = ensemble.grams(h_t, h_s)
    np.testing.assert_allclose(single.mean(0), ensemble.gram(h_t, h_s), rtol=1e-5)
    means = means_of(single)
    np.testing.assert_allclose(means[0], np.asarray(single, np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(means[3], np.delete(single, 2, 0).mean(0), rtol=1e-5)
    for share in (0.3, 1.0):
        assert float(weights_of(5, share).sum()) == pytest.approx(1)


def test_it_takes_the_error_of_few_networks_away():
    """Over 300 draws of 3 networks the mean of J lies at least four times nearer to the loss under
    the mean kernel of all 900 networks than the mean of the plain loss."""
    coreset, batch = problem(6, 12)
    few = RandomFeatureKernel(convnet(8, 2), SHAPE, 3, "float32")

    def losses(key):
        ensemble = Ensemble(few)
        drawn = ensemble.sample(key)
        h_s, h_t = (ensemble.features(drawn, x, 128) for x in (coreset.images, batch.images))
        k_ss, k_ts = ensemble.grams(h_s, h_s), ensemble.grams(h_t, h_s)

        def of(k_ss, k_ts):
            outputs = krr_predict(k_ts, krr_solve(k_ss, coreset.labels, REG))
            return jnp.mean(LOSSES["platt"](outputs, batch.labels, coreset.log_temperature))

        solved = jax.vmap(of)(means_of(k_ss), means_of(k_ts))
        return solved[0], weights_of(3, 1.0) @ solved, k_ss.mean(0), k_ts.mean(0)

    keys = jax.random.split(jax.random.key(1), 300)
    plain, estimate, k_ss, k_ts = jax.lax.map(jax.jit(losses), keys)
    outputs = krr_predict(k_ts.mean(0), krr_solve(k_ss.mean(0), coreset.labels, REG))
    exact = jnp.mean(LOSSES["platt"](outputs, batch.labels, coreset.log_temperature))
    error = abs(float(plain.mean() - exact))
    spread = float(plain.std()) / 300**0.5
    assert error > 6 * spread  # the plain loss is off, beyond chance
    assert abs(float(estimate.mean() - exact)) < error / 4


def test_one_network_is_refused():
    with pytest.raises(UserError, match=r"method\.jackknife=0\.5: needs at least 2 networks"):
        distiller(parsed("method.jackknife=0.5", "kernel.networks=1"))
