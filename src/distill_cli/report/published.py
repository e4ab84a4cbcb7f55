"""Published figures to stand beside one's own: published.json, looked up by cell.

A figure is given only for a run of the same method, data set, images per class, kind of labels,
kernel network and test protocol: two protocols on one coreset differ by several points, so
anything looser would compare unlike things. `published_cell` lists the neighbours, each with its
protocol.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from distill_cli.errors import choice_error
from distill_cli.report.run_result import Evaluation, RunResult
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
    spread: float | None
    protocol: str
    n: int | None
    source: str
    note: str
    architecture: str | None = None  # of the kernel; None: not compared
    source_id: str = ""
    mark: str = "read"  # read: in the source itself; quoted: in another publication, which is named
    unit: str = "%"

    def text(self) -> str:
        """ "73.1 ± 0.1 %", or "53.6 %" where the source gives no spread."""
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return f"{self.mean:.1f}{spread} {self.unit}"


@cache
def table() -> tuple[Published, ...]:
    """Figures that stand beside runs in reports, in the order of the sources."""
    return figures(tables_only=False)


@cache
def figures(tables_only: bool) -> tuple[Published, ...]:
    """Figures of the sources, or of those alone that only tables refer to.

    tables_only marks sources whose settings a run's own settings do not tell (augmentation, the
    choice of the best of several), and other quantities than accuracies.
    """
    text = files("distill_cli.report").joinpath("published.json").read_text(encoding="utf-8")
    data = json.loads(text)
    found: list[Published] = []
    for source in data["sources"]:
        if source.get("tables_only", False) != tables_only:
            continue
        for dataset, ipc, *cells in source["rows"]:
            for column, cell in zip(source["columns"], cells, strict=True):
                if cell is None:
                    continue
                method, (mean, spread) = column["method"], cell
                found.append(
                    Published(
                        method, dataset, ipc, column["labels"], mean, spread, column["protocol"],
                        source["n"].get(method), source["source"], source["notes"][method],
                        column.get("architecture"), source["id"], source["mark"],
                        source.get("unit", "%"),
                    )
                )  # fmt: skip
    return tuple(found)


def find(sources: Iterable[str], **setting: object) -> Published | None:
    """The figure of a table's cell: the first of its sources that has one with all the given
    fields of `Published`; None where none was found.

    Raises UserError for a source that published.json does not have.
    """
    every = [*figures(tables_only=False), *figures(tables_only=True)]
    known = list(dict.fromkeys(row.source_id for row in every))
    for name in sources:
        if name not in known:
            raise choice_error("source", name, known)
        for row in every:
            if row.source_id == name and all(getattr(row, k) == v for k, v in setting.items()):
                return row
    return None


def source_titles(sources: Iterable[str]) -> list[str]:
    """What sources are, in words."""
    every = [*figures(tables_only=False), *figures(tables_only=True)]
    titles = {row.source_id: f"{row.source} ({row.mark})" for row in every}
    return [titles[name] for name in sources if name in titles]


def published(
    method: object,
    dataset: object,
    ipc: object,
    labels: object,
    protocol: object,
    architecture: str | None = None,
) -> Published | None:
    """The published figure of exactly this setting, or None where none is known.

    architecture: the name of the run's kernel network (`architecture_name`); None: any.
    """
    wanted = (str(method), str(labels), protocol_key(protocol))
    for row in published_cell(dataset, ipc):
        alike = None in (row.architecture, architecture) or row.architecture == architecture
        if (row.method, row.labels, row.protocol) == wanted and alike:
            return row
    return None


def architecture_name(result: RunResult) -> str | None:
    """convnet3, kip_convnet (convolutions 2, 1, 1), fully_connected1, ...; None if not recorded."""
    name, depth, convs = (result.option("architecture", key) for key in ("name", "depth", "convs"))
    if name is None or depth is None:
        return None
    if name == "convnet" and convs and set(convs) != {1}:
        return "kip_convnet" if list(convs) == [2, 1, 1] else "convnet" + "-".join(map(str, convs))
    return f"{name}{depth}"


def published_cell(dataset: object, ipc: object) -> list[Published]:
    """All figures for a data set and number of images per class: every method and label kind."""
    key = dataset_key(dataset)
    return [row for row in table() if row.dataset == key and row.ipc == ipc]


def published_for(result: RunResult, evaluation: Evaluation) -> Published | None:
    """The published figure for one evaluation of a run; none for corrupted training images."""
    if result.corruption:
        return None
    network = architecture_name(result)
    return published(
        result.method, result.dataset, result.ipc, result.labels, evaluation.protocol, network
    )
