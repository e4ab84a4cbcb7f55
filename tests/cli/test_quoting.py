"""Values of any characters reach the configuration without quotes inside quotes."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from distill_cli.cli.quoting import quoted, with_quotes

PARSER = OverridesParser.create()


def value(word: str):
    found = PARSER.parse_override(quoted(word))
    if found.is_sweep_override():
        return [getattr(one, "text", one) for one in found.value().list]
    return found.value()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("out=résultats", "résultats"),
        ("out=mes résultats/été", "mes résultats/été"),
        ("out=猫", "猫"),
        ("out=a=b", "a=b"),
        ("out=a&b#c~d!e;f^g", "a&b#c~d!e;f^g"),
        ("dataset.path=~/x", "~/x"),
        ("out=O'Brien", "O'Brien"),
        ('out=12" prints', '12" prints'),
        ("dataset.class_names=[Äpfel,b c, Öl]", ["Äpfel", "b c", "Öl"]),
        ("dataset.path=/a/é", "/a/é"),
        ("+logger.wandb.name=ünter", "ünter"),
    ],
)
def test_what_hydra_refuses_is_quoted(word, expected):
    assert value(word) == expected


def test_sweeps_stay_sweeps():
    assert value("dataset.path=/a/b,/c/é") == ["/a/b", "/c/é"]


@pytest.mark.parametrize(
    "word",
    [
        "ipc=1", "ipc=1,10", "evaluation=[krr_nngp,krr_ntk]", "out=my runs", "out='résultats'",
        'out="résultats"', "method.rate=interval(1,2)", "x={a:é}", "x=[[é],b]", "x=['é',b]",
        "out=${hydra:runtime.cwd}", r"out=a\,é", "--multirun", "-m", "--cfg=jöb", "~logger",
        "é=1", "out", "=é", "", "steps=1e5", "lr=choice(é)", "x=null", "x=", "x=[]",
    ],
)  # fmt: skip
def test_the_rest_is_as_it_was(word):
    assert with_quotes([word]) == [word]
