"""What samplers are made of: clusters of kmeans_batch, the generic per-image loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_importance_samplers import KEY, prepared

from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.losses import platt
from distill_cli.errors import UserError
from distill_cli.train.samplers.base import make_sampler
from distill_cli.train.samplers.losses import LossModel
from sampler_problem import LABELS, distiller, parsed, rows_of, start, training


def test_clusters_partition_the_training_set():
    for balanced in ("false", "true"):
        _, sampling, *_ = prepared("sampler=kmeans_batch", f"sampler.balanced={balanced}")
        np.testing.assert_array_equal(np.sort(sampling.order), np.arange(64))
        count, first = np.asarray(sampling.count), np.asarray(sampling.start)
        assert count.sum() == 64
        for cluster in np.flatnonzero(count):
            members = np.asarray(sampling.order)[first[cluster] : first[cluster] + count[cluster]]
            assert sampling.centre[cluster] in members
            if balanced == "true":
                assert len(set(LABELS[members].tolist())) == 1


def test_nearest_takes_the_centres_images():
    draw, sampling, train, _, state = prepared("sampler=kmeans_batch", "sampler.pick=nearest")
    batch = draw(sampling, train, state, KEY)
    drawn = rows_of(batch)[np.asarray(batch.weights) > 0]
    assert set(drawn.tolist()) <= set(np.asarray(sampling.centre).tolist())


def test_more_classes_than_images_in_a_balanced_kmeans_batch_are_refused():
    config = parsed("sampler=kmeans_batch", "sampler.balanced=true", "batch.size=2")
    with pytest.raises(UserError, match=r"batch\.size=2: .* at least 3"):
        make_sampler(config, None).init(training())  # type: ignore[arg-type]


def test_losses_are_those_of_regression_from_the_coreset():
    config = parsed("sampler=loss_importance")
    method = distiller(config)
    state, train = method.init(jax.random.key(0), start()), training()
    model = LossModel(config, method, 2)
    found = jax.jit(model.of_all)(state, KEY, train)
    kernel = model.kernel((6, 6, 1))
    networks = jax.jit(kernel.sample)(KEY)
    features = jax.jit(kernel.features)
    phi, phi_s = features(networks, train.images), features(networks, start().images)
    alpha = krr_solve(kernel.gram(phi_s, phi_s), start().labels, config.method.ridge)
    outputs = krr_predict(kernel.gram(phi, phi_s), alpha)
    wanted = platt(outputs, train.labels, jnp.zeros(()))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
