"""search=optuna without ranges, and keys that cannot act."""

import json

import pytest

from distill_cli.cli.compose import compose, run_folder
from distill_cli.cli.search import with_space
from distill_cli.config import config_dir, group_choices, parse, plain
from extras import needs_optuna

TINY = ("steps=20", "architecture.width=8", "kernel.networks=2", "batch.size=64",
        "validation.every=10", "validation.networks=2", "progress=none")  # fmt: skip
SEARCH = ("-m", "search=optuna")


@pytest.mark.parametrize("method", group_choices("space"))
def test_each_space_has_keys_of_its_method(method):
    """Each range is one of a number that the method has, around its published value."""
    composed = compose("config", [f"method={method}"])
    space = dict(composed.tuning.space)
    assert space
    for key, text in space.items():
        low, high = map(float, text.removeprefix("tag(log,interval(").rstrip(")").split(","))
        assert 0 < low < high
        value = plain(composed)
        for part in key.split("."):
            value = value[part]
        assert isinstance(value, float), key
        parse(compose("config", [f"method={method}", f"{key}={low}"]))
    assert parse(composed).tuning.space == space


def test_a_space_is_of_a_method():
    assert set(group_choices("space")) <= set(group_choices("method"))
    assert (config_dir() / "space").is_dir()


@needs_optuna
def test_ranges_are_added_only_where_none_are_typed(capsys):
    added = with_space([*SEARCH, "method=kip"])[3:]
    assert [word.split("=")[0] for word in added] == ["method.learning_rate", "method.ridge"]
    assert "searching method.learning_rate=" in capsys.readouterr().out.replace("'", "")
    assert with_space([*SEARCH, "method=kip", "method.ridge=1e-3"])[4:] == added[:1]
    for words in (
        ["search=optuna"],
        ["-m", "seed=0,1"],
        [*SEARCH, "seed=0,1"],
        [*SEARCH, "method.ridge=interval(1e-4,1e-2)"],
        [*SEARCH, "hydra.sweeper.params={seed:'choice(0,1)'}"],
    ):
        assert with_space(words) == words


@needs_optuna
def test_a_search_varies_what_it_says(command, tmp_path):
    done = command("distill", *SEARCH, "hydra.sweeper.n_trials=2", *TINY)
    assert done.code == 0, done.err
    found = [json.loads(file.read_text()) for file in tmp_path.rglob("result.json")]
    rates = {run["config"]["method"]["learning_rates"]["images"] for run in found}
    ridges = {run["config"]["method"]["ridge"] for run in found}
    assert len(rates) == len(ridges) == 2
    assert all(1e-3 <= rate <= 1e-1 for rate in rates)


@needs_optuna
def test_nothing_to_search(command, tmp_path):
    done = command("distill", *SEARCH, "method=random")
    assert done.code == 2
    assert "nothing to search for method=random" in done.err
    assert not (tmp_path / "outputs").exists()


def test_steps_of_a_method_that_makes_none():
    """They make no second run of it."""
    plain_run, with_steps = (
        compose("config", ["method=random", *more]) for more in ((), ("steps=40",))
    )
    assert run_folder(plain_run) == run_folder(with_steps)
    assert parse(with_steps).steps == 0
