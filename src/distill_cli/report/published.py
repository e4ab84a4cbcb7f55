"""Published figures to stand beside one's own: published.json, looked up by cell.

A figure is given only for a run of the same method, data set, images per class, kind of labels and
test protocol: two protocols on one coreset differ by several points, so anything looser would
compare unlike things. `published_cell` lists the neighbours, each with its protocol.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from distill_cli.report.results import evaluations, number
from distill_cli.report.words import dataset_key, protocol_key


class Published(NamedTuple):
    """Test accuracy in percent with its spread, over n runs where the number is known.

    The kind of spread is not stated in the source.
    """

    method: str
    dataset: str
    ipc: int
    labels: str
    mean: float
    spread: float
    protocol: str
    n: int | None
    source: str
    note: str

    def text(self) -> str:
        """ "73.1 ± 0.1 %"."""
        return f"{self.mean:.1f} ± {self.spread:.1f} %"


@cache
def table() -> tuple[Published, ...]:
    """Every published figure that is known, in the order of the source."""
    text = files("distill_cli.report").joinpath("published.json").read_text(encoding="utf-8")
    data = json.loads(text)
    found: list[Published] = []
    for source in data["sources"]:
        columns = [(c["method"], c["labels"], c["protocol"]) for c in source["columns"]]
        for dataset, ipc, *cells in source["rows"]:
            for (method, labels, protocol), (mean, spread) in zip(columns, cells, strict=True):
                about = (source["n"].get(method), source["source"], source["notes"][method])
                found.append(
                    Published(method, dataset, ipc, labels, mean, spread, protocol, *about)
                )
    return tuple(found)


def published(
    method: object, dataset: object, ipc: object, labels: object, protocol: object
) -> Published | None:
    """The published figure of exactly this setting, or None where none is known."""
    wanted = (str(method), str(labels), protocol_key(protocol))
    for row in published_cell(dataset, ipc):
        if (row.method, row.labels, row.protocol) == wanted:
            return row
    return None


def published_cell(dataset: object, ipc: object) -> list[Published]:
    """All figures for a data set and number of images per class: every method and label kind."""
    key = dataset_key(dataset)
    return [row for row in table() if row.dataset == key and row.ipc == ipc]


def published_for(result: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Published | None:
    """The published figure for one evaluation of a run."""
    method, dataset, ipc, labels = (result.get(k) for k in ("method", "dataset", "ipc", "labels"))
    return published(method, dataset, ipc, labels, evaluation.get("protocol"))


def headline(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation to put first: one with a published figure, else the first with an accuracy."""
    usable = [e for e in evaluations(result) if number(e.get("accuracy")) is not None]
    return next((e for e in usable if published_for(result, e)), usable[0] if usable else None)
