"""Students are the networks that the protocols train: same accuracy from the same key."""

import numpy as np
import pytest

from distill_cli.apply.students import outputs, recipe_of, student
from distill_cli.arch.convnet import Config as ConvNet
from distill_cli.arch.convnet import build
from distill_cli.core.types import Coreset, one_hot_centred
from distill_cli.evaluation import dc, dsa, frepo
from distill_cli.evaluation.base import Problem, evaluate
from distill_cli.evaluation.protocol import network_key

CONFIGS = {
    "dc": dc.Config(networks=1, width=4, epochs=3, augmentation="none"),
    "dsa": dsa.Config(networks=1, width=4, epochs=2),
    "frepo": frepo.Config(networks=1, width=4, steps=6),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_student_is_the_network_of_the_protocol(name):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    images = (rng.normal(size=(40, 8, 8, 1)) + labels[:, None, None, None]).astype(np.float32)
    coreset = Coreset(images[:12], np.asarray(one_hot_centred(labels[:12], 4)), np.zeros(()))
    problem = Problem(
        build(ConvNet(width=4, depth=2)), "digits", 3, (images, labels), (images, labels), 1e-3, 0
    )
    config = CONFIGS[name]
    expected = evaluate(name, config, coreset, problem)
    recipe = recipe_of(name, config, "digits", coreset.images.shape)
    key = network_key(config.seed, config.architectures[0], 0)
    net, variables = student(recipe, config, coreset.images, coreset.labels, key)
    found = outputs(net, variables, images)
    assert found.shape == (40, 4)
    assert np.mean(found.argmax(1) == labels) == expected.accuracy
    assert recipe.steps == expected.detail["settings"]["steps"]
