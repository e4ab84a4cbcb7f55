"""The door of result.json: whatever stands there becomes a value of its type, or a gap."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from distill_cli.report.card import card
from distill_cli.report.citations import citations
from distill_cli.report.html import page
from distill_cli.report.parse import parse_result
from distill_cli.report.results import read_result
from distill_cli.report.run_result import Evaluation, Measured, RunResult
from distill_cli.report.terminal import summary

STRANGE = (None, float("nan"), -1, 1e300, True, "x", [], [1, None], {}, {"a": {"b": []}})


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value of a JSON tree."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inside:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def put(tree: Any, path: tuple, value: object) -> Any:
    changed = json.loads(json.dumps(tree))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def test_any_value_anywhere_makes_a_report(run):
    """Every place of a result in turn holds a value of every kind (at most some hundred)."""
    raw = json.loads((run / "result.json").read_text())
    every = [(path, value) for path in places(raw) for value in STRANGE]
    chosen = np.random.default_rng(0).permutation(len(every))[:300]
    for path, value in (every[i] for i in chosen):
        result = parse_result(put(raw, path, value))
        for text in (summary(result), card(result, None), citations(result)):
            assert "Traceback" not in text
        if path[0] in ("evaluations", "config"):
            page(result, [], None)


def test_types_are_those_of_the_fields(run):
    raw = json.loads((run / "result.json").read_text())
    for changed in (raw, *({key: value for key in raw} for value in STRANGE)):
        result = parse_result(changed)
        for part in (result, *result.evaluations, result.validation, result.coreset):
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                if field.type is str:
                    assert isinstance(value, str), field.name
                elif field.type == int | None:
                    assert value is None or type(value) is int, field.name
                elif field.type == float | None:
                    assert value is None or type(value) is float, field.name


def test_a_whole_result(run):
    result, raw = read_result(run), json.loads((run / "result.json").read_text())
    assert [e.protocol for e in result.evaluations] == [e["protocol"] for e in raw["evaluations"]]
    first, row = result.evaluations[0], raw["evaluations"][0]
    assert (first.accuracy, first.std, first.images) == (row["accuracy"], row["std"], row["images"])
    assert first.real.accuracy == row["baseline_random"]["accuracy"]
    assert first.gain == pytest.approx(first.accuracy - first.real.accuracy)
    assert result.of_protocol(row["protocol"]) is first and result.of_protocol("nothing") is None
    ((key, value), *_) = raw["config"].items()
    assert result.option(key) == value
    assert result.option("x", "y") is None and result.option(key, "deeper", "still") is None


def test_an_empty_result_has_gaps_alone():
    assert parse_result({}) == RunResult()
    assert Evaluation().gain is None and Evaluation().clear_gain and Measured().error is None
