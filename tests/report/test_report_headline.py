"""Which evaluation stands for a run, and what a result is called."""

import pytest

from distill_cli.report.headline import headline
from distill_cli.report.parse import parse_evaluation, parse_result
from distill_cli.report.run_result import Evaluation
from distill_cli.report.words import run_title

BOTH = [{"protocol": "krr_nngp", "accuracy": 0.9}, {"protocol": "krr_ntk", "accuracy": 0.8}]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [("ntk", "krr_ntk"), ("nngp", "krr_nngp"), ("random_features", "krr_nngp"), (None, "krr_nngp")],
)
def test_the_kernel_that_was_distilled_for_comes_first(kernel, expected) -> None:
    result = {"method": "kip", "evaluations": BOTH, "config": {"kernel": {"name": kernel}}}
    assert (headline(parse_result(result)) or Evaluation()).protocol == expected


def test_a_published_figure_goes_before_it() -> None:
    result = {"method": "kip", "dataset": "mnist", "ipc": 1, "labels": "fixed",
              "evaluations": BOTH, "config": {"kernel": {"name": "nngp"}}}  # fmt: skip
    assert (headline(parse_result(result)) or Evaluation()).protocol == "krr_ntk"


def test_no_accuracy_no_headline() -> None:
    assert headline(parse_result({"evaluations": [{"protocol": "krr_ntk"}]})) is None


def test_a_coreset_file_goes_by_its_name() -> None:
    result = {"dataset": "mnist", "ipc": 2, "coreset": {"path": "/a/b/export.pt"}}
    assert run_title(parse_result(result)) == "Coreset export.pt on MNIST, 2 images per class"
    assert run_title(parse_result({**result, "method": "kip"})).startswith("KIP on MNIST")


def test_further_baselines_by_name() -> None:
    row = {"baseline_random": {"accuracy": 0.1}, "baseline_herding": {"accuracy": 0.2},
           "baseline_x": None}  # fmt: skip
    found = parse_evaluation(row)
    assert {name: part.accuracy for name, part in found.other_real.items()} == {"herding": 0.2}
    assert found.real.accuracy == 0.1
