"""Choices that a method cannot use are refused when the configuration is parsed, by name."""

import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.errors import UserError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("method=rfad kernel=ntk", "kernel=ntk: method=rfad needs kernel=random_features"),
        ("method=kip kernel=random_features", "method=kip needs kernel=nngp or ntk"),
        ("method=dc labels=learned", "labels=learned: method=dc needs labels=fixed"),
        ("method=dsa loss=platt", "loss=platt: method=dsa needs loss=mse"),
        ("method=label_solve labels=fixed", "method=label_solve needs labels=learned"),
        ("method=frepo loss=platt", "loss=platt: method=frepo needs loss=mse"),
        (
            "method=rfad sampler=sequential",
            "needs sampler=kmeans_batch or",
        ),
        ("init=ridge_leverage init.class_wise=true init.balanced=false", "init.class_wise=true:"),
        ("method=full ipc=3", "ipc=3: method=full needs ipc=0"),
        ("method=full init=random", "init=random: method=full needs init=full"),
        ("init=full", "init=full: method=rfad needs init=coreset or"),
        ("ipc=0", "ipc=0: must be at least 1"),
        ("evaluation.epochs=0", "evaluation.epochs=0: must be at least 1"),
        ("method.ridge=inf", "method.ridge=inf: must be finite"),
        ("seed=4294967296", "seed=4294967296: must lie in [0, 4294967295]"),
        ("steps=1e30", "must lie in [0, 1000000000]"),
        ("snapshots=5", "snapshots=5: must be a list"),
        (
            "evaluation=[krr_nngp] evaluation.architecture=[vgg11]",
            "evaluation.architecture=vgg11: no protocol of evaluation=[krr_nngp] trains networks",
        ),
        ("architecture=myrtle", "architecture.depth=2: myrtle has 5, 7 or 10"),
    ],
)
def test_refused(options, message):
    with pytest.raises(UserError) as error:
        parse(compose("config", options.split()))
    assert message in str(error.value)


@pytest.mark.parametrize("architecture", ["fully_connected", "conv_vec", "convnet"])
def test_a_recipe_that_empties_a_key_of_another_architecture_does_no_harm(architecture):
    config = parse(compose("config", ["method=kip", f"architecture={architecture}"]))
    assert config.architecture.name == architecture
