"""Published figures against Table 1 of the RFAD paper (arXiv 2210.12067), typed in again here."""

import pytest

from distill_cli.report.parse import parse_result
from distill_cli.report.published import published, published_cell, published_for, table
from distill_cli.report.run_result import Evaluation, RunResult


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "labels", "protocol", "mean", "spread"),
    [
        ("rfad", "cifar10", 10, "fixed", "krr_nngp", 73.1, 0.1),
        ("rfad", "cifar10", 1, "fixed", "krr_nngp", 61.1, 0.7),
        ("rfad", "cifar10", 50, "learned", "krr_nngp", 76.6, 0.3),
        ("rfad", "mnist", 1, "learned", "krr_nngp", 97.2, 0.2),
        ("rfad", "fashion_mnist", 10, "fixed", "krr_nngp", 90.0, 0.1),
        ("rfad", "svhn", 50, "fixed", "krr_nngp", 81.8, 0.2),
        ("rfad", "cifar100", 1, "learned", "krr_nngp", 44.1, 0.1),
        ("rfad", "cifar100", 10, "fixed", "krr_nngp", 44.9, 0.2),
        ("kip", "cifar10", 10, "fixed", "krr_ntk", 67.0, 0.4),
        ("kip", "svhn", 1, "learned", "krr_ntk", 64.3, 0.4),
        ("kip", "cifar100", 10, "learned", "krr_ntk", 49.5, 0.3),
        ("dc", "mnist", 50, "fixed", "dc", 98.8, 0.1),
        ("dsa", "svhn", 10, "fixed", "dsa", 79.2, 0.5),
        ("dsa", "cifar10", 50, "fixed", "dsa", 60.6, 0.5),
    ],
)
def test_cells(
    method: str, dataset: str, ipc: int, labels: str, protocol: str, mean: float, spread: float
) -> None:
    found = published(method, dataset, ipc, labels, protocol)
    assert found is not None
    assert (found.mean, found.spread) == (mean, spread)
    assert "2210.12067" in found.source
    assert "Table 1" in found.source


def test_the_whole_table_is_there() -> None:
    # RFAD's table, Label Solve with two networks, FRePo, DM.
    assert len(table()) == 14 * 6 + 15 + 3 + 8 + 9
    assert len({(*row[:4], row.architecture) for row in table()}) == len(table())
    # Column sums of the RFAD columns and of DC, over the 14 rows of the source.
    sums = {("dc", "fixed"): 879.0, ("rfad", "fixed"): 1059.3, ("rfad", "learned"): 1082.3}
    for (method, labels), total in sums.items():
        column = [row.mean for row in table() if (row.method, row.labels) == (method, labels)]
        assert sum(column) == pytest.approx(total)


@pytest.mark.parametrize(
    "key",
    [
        ("rfad", "cifar100", 50, "fixed", "krr_nngp"),  # not in the source
        ("rfad", "cifar10", 10, "fixed", "krr_ntk"),  # another protocol
        ("rfad", "cifar10", 10, "fixed", "network"),  # the table of networks could not be read
        ("rfad", "cifar10", 5, "fixed", "krr_nngp"),
        ("rfad", "digits", 1, "fixed", "krr_nngp"),
        ("frepo", "cifar10", 10, "learned", "network"),
        (None, None, None, None, None),
    ],
)
def test_unknown_settings_have_no_figure(key: tuple) -> None:
    assert published(*key) is None


def test_names_are_read_in_their_usual_spellings() -> None:
    assert published("rfad", "fashion-mnist", 1, "fixed", "krr_nngp") is not None
    assert published("rfad", "svhn_cropped", 1, "fixed", "krr_nngp") is not None
    assert published("dc", "mnist", 1, "fixed", "dc") is not None


def test_cell_lists_all_methods_of_one_size() -> None:
    cell = published_cell("cifar10", 10)
    assert [(r.method, r.labels) for r in cell] == [
        ("dc", "fixed"), ("dsa", "fixed"), ("kip", "fixed"), ("rfad", "fixed"),
        ("kip", "learned"), ("rfad", "learned"), ("frepo", "learned"), ("dm", "fixed"),
        ("label_solve", "learned"), ("label_solve", "learned"),
    ]  # fmt: skip
    assert published_cell("digits", 1) == []


def test_lookup_from_a_result() -> None:
    result = RunResult(method="rfad", dataset="cifar10", ipc=10, labels="fixed")
    found = published_for(result, Evaluation(protocol="krr_nngp"))
    assert found is not None
    assert found.text() == "73.1 \u00b1 0.1 %"
    assert published_for(result, Evaluation()) is None
    assert published_for(RunResult(), Evaluation(protocol="krr_nngp")) is None


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ({"name": "convnet", "depth": 3, "convs": [2, 1, 1]}, 53.59),
        ({"name": "convnet", "depth": 3, "convs": None}, 52.90),
        ({"name": "convnet", "depth": 2, "convs": None}, None),
        ({"name": "fully_connected", "depth": 1}, None),
    ],
)
def test_a_figure_is_given_for_the_same_kernel_network_only(architecture, expected) -> None:
    result = {
        "method": "label_solve", "dataset": "cifar10", "ipc": 10, "labels": "learned",
        "config": {"architecture": architecture},
    }  # fmt: skip
    found = published_for(parse_result(result), Evaluation(protocol="krr_ntk"))
    assert (found and found.mean) == expected
    if found:
        assert found.text() == f"{expected:.1f} %"
