"""init=forgetting: counting, training, and what gets chosen."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.arch.network import initialise as start
from distill_cli.arch.network import network, predict, with_width
from distill_cli.core.keys import named_key
from distill_cli.errors import UserError
from distill_cli.init.base import Request, initialise
from distill_cli.init.forgetting import Config, learn, scores

rng = np.random.default_rng(0)


def blobs(count: int = 60, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that a small network separates at once."""
    labels = np.arange(count, dtype=np.int32) % 3
    centres = rng.normal(size=(3, 8, 8, 1))
    images = 2 * centres[labels] + noise * rng.normal(size=(count, 8, 8, 1))
    return images.astype(np.float32), labels


def request(images, labels, ipc: int = 2, seed: int = 0) -> Request:
    return Request(images, labels, ipc, 3, seed, convnet(4, 2), 16)


def test_events_counted_by_hand():
    history = np.array([[1, 0, 0, 1, 1], [0, 0, 1, 1, 0], [1, 0, 1, 1, 1], [0, 0, 1, 1, 1]], bool)
    assert scores(history).tolist() == [2, 4, 0, 0, 1]


def test_events_never_exceed_half_the_epochs_unless_never_learned():
    history = rng.random((7, 200)) < 0.3
    found = scores(history)
    for image in range(200):
        seen = history[:, image]
        events = sum(a and not b for a, b in pairwise(seen))
        assert found[image] == (events if seen.any() else 7)
    assert found[history.any(0)].max() <= 3


@pytest.mark.parametrize("batch", [7, 500])
def test_without_learning_every_visit_answers_as_the_network_at_the_start(batch):
    """Every image is visited once an epoch, the last partial batch included."""
    images = rng.normal(size=(60, 8, 8, 1)).astype(np.float32)
    labels = rng.integers(0, 3, 60).astype(np.int32)
    config = Config(width=4, epochs=2, batch=batch, learning_rate=0.0)
    net = network(with_width(convnet(4, 2), 4), 3)
    key = named_key(0, "x")
    history = learn(net, config, jnp.asarray(images), jnp.asarray(labels), key)
    params = start(net, jax.random.split(key)[0], images[:1])
    right = predict(net, params, images).argmax(1) == labels
    assert 0 < right.sum() < 60
    np.testing.assert_array_equal(history, np.stack([right, right]))


def test_wrong_labels_are_chosen():
    images, labels = blobs(noise=0.1)
    wrong = {0: 1, 4: 2, 8: 0}  # one of each class as labelled
    for row, label in wrong.items():
        labels[row] = label
    found = initialise(Config(width=8, epochs=8, batch=20), request(images, labels, ipc=1))
    assert found.rows is not None and found.record is not None
    # A wrong label that is soon learned by heart can tie with a right one; by chance 3 of 60.
    assert len(set(found.rows.tolist()) & set(wrong)) >= 2
    scored = found.record["scores"]
    for row in found.rows:  # of its class as labelled, none was forgotten more often
        assert scored[row] == scored[labels == labels[row]].max()
    assert found.record["scores"].shape == (60,)
    right = np.delete(found.record["scores"], list(wrong))
    assert right.mean() < found.record["scores"][list(wrong)].min()


def test_thinned_classes_and_the_seed():
    images, labels = blobs()
    config = Config(width=4, epochs=2, batch=16, candidates=5)
    one, two = (initialise(config, request(images, labels, seed=seed)) for seed in (0, 0))
    np.testing.assert_array_equal(one.rows, two.rows)
    assert one.record is not None and one.rows is not None
    assert (one.record["scores"] >= 0).sum() == 15
    assert (one.record["chosen_scores"] >= 0).all()
    other = initialise(config, request(images, labels, seed=1))
    assert not np.array_equal(one.rows, other.rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1}, r"init\.epochs=1: must be at least 2"),
        ({"momentum": 1.5}, r"init\.momentum=1\.5"),
        ({"learning_rate": -1.0}, r"init\.learning_rate=-1"),
        ({"candidates": 0}, r"init\.candidates=0"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_fewer_candidates_than_images_wanted():
    with pytest.raises(UserError, match=r"init\.candidates=1: must be at least 2"):
        initialise(Config(candidates=1), request(*blobs()))
