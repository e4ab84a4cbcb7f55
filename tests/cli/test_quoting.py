"""Values of any characters reach the configuration without quotes inside quotes."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from distill_cli.cli.quoting import quoted, with_quotes
from tiny import TINY

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
        "coreset=é/x", "coreset=O'Brien",
        "é=1", "out", "=é", "", "steps=1e5", "lr=choice(é)", "x=null", "x=", "x=[]",
        "x=[é", "x=é]",
    ],
)  # fmt: skip
def test_the_rest_is_as_it_was(word):
    assert with_quotes([word]) == [word]


def test_a_folder_with_accents_through_the_commands(command, tmp_path):
    """distill, then distill-evaluate and distill-export on what it left."""
    done = command("distill", *TINY, "steps=0", "evaluation=none", "out=mes résultats/été & co")
    assert done.code == 0, done.err
    (result,) = (tmp_path / "mes résultats" / "été & co").rglob("result.json")
    measure = ("evaluation=[krr_nngp]", "evaluation.limit=20", "out=mesuré")
    done = command("distill-evaluate", f"coreset={result.parent}", *measure)
    assert done.code == 0, done.err
    assert list((tmp_path / "mesuré").rglob("evaluation.json"))
    done = command("distill-export", f"coreset={result.parent}", "out=exporté")
    assert done.code == 0, done.err
    assert (tmp_path / "exporté" / "coreset.npz").is_file()
