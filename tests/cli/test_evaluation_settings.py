"""Settings common to protocols reach those that have them, and only those."""

import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.errors import UserError


def protocols(*options: str):
    return parse(compose("config", list(options))).evaluation.protocols


def test_networks_and_architectures_of_every_protocol_that_trains_some():
    options = ("evaluation=[dc,frepo,finite,krr_ntk]", "evaluation.networks=2")
    plain = protocols(*options)
    assert [plain[name].networks for name in ("dc", "frepo", "finite")] == [2, 2, 2]
    assert not hasattr(plain["krr_ntk"], "networks")
    assert plain["frepo"].architectures == ("frepo_conv",)
    table = protocols(*options, "evaluation.architecture=[convnet,vgg11]")
    assert [table[name].architectures for name in ("dc", "frepo")] == [("convnet", "vgg11")] * 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("evaluation.architecture=[foo]", "evaluation.dc.architectures=foo"),
        ("evaluation.architecture=[]", "name at least one"),
        ("evaluation.networks=0", "evaluation.networks=0"),
        ("evaluation.memory_mb=0", "evaluation.memory_mb=0"),
    ],
)
def test_wrong_values_are_named_before_anything_runs(option, message):
    with pytest.raises(UserError) as error:
        protocols("evaluation=[dc]", option)
    assert message in str(error.value)


@pytest.mark.parametrize("key", ["evaluation.finite.width", "evaluation.dsa.networks"])
def test_keys_of_a_protocol_that_was_not_chosen_say_so(key):
    with pytest.raises(UserError) as error:
        protocols("evaluation=[krr_ntk]", f"{key}=3")
    name = key.split(".")[1]
    assert str(error.value).startswith(f"{key}: belongs to evaluation={name}, which is not chosen")


def test_other_unknown_keys_are_still_suggested():
    with pytest.raises(UserError, match=r"did you mean evaluation.limit"):
        protocols("evaluation.limt=3")


def test_snapshots_beyond_the_last_step_are_refused():
    assert parse(compose("config", ["steps=40", "snapshots=[0,40]"])).snapshots == (0, 40)
    with pytest.raises(UserError) as error:
        parse(compose("config", ["steps=40", "snapshots=[0,41]"]))
    assert str(error.value) == "snapshots[1]=41: the run makes at most steps=40"
