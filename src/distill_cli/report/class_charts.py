"""What an evaluation says of each class: bars, a confusion heat map, a table (classes.html).

Of many classes the bars show the least and the most accurate ones; the table has all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill_cli.report import words
from distill_cli.report.class_heat import MANY, NUMBERS, heat_map
from distill_cli.report.class_results import ClassResults
from distill_cli.report.headline import headline
from distill_cli.report.run_result import Evaluation, RunResult
from distill_cli.report.templating import Markup, macro

ENDS = 10  # bars at each end, of more than MANY classes
CONFUSIONS = 10  # pairs in the list of the most frequent confusions


class Bar(NamedTuple):
    """Accuracy of a class; tick: where random real images are, None: not measured."""

    name: str
    width: str
    tick: str | None
    accuracy: str
    images: str


class ClassView(NamedTuple):
    """One evaluation as its classes show it. confusions: rows of the list beside the heat map;
    groups: (heading, bars); compared: there are ticks; head, rows: the table of all classes."""

    title: str
    note: str
    coreset: str
    compared: bool
    groups: list[tuple[str, list[Bar]]]
    heat_map: Markup
    confusions: list[list[str]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def classes_part(result: RunResult) -> Markup:
    """HTML of every evaluation with classes: that of the headline in full, the others folded; ""
    where there is none."""
    main = headline(result)
    found = [(e, seen) for e in result.evaluations if (seen := e.classes)]
    found.sort(key=lambda pair: pair[0] is not main)
    views = [class_view(result, e, seen, f"c{at}") for at, (e, seen) in enumerate(found)]
    return macro("classes.html", "all")(views)


def class_view(
    result: RunResult, evaluation: Evaluation, seen: ClassResults, name: str
) -> ClassView:
    """The classes of one evaluation; name: of the heat map's masks, one of its own on a page."""
    what = "validation" if evaluation.split == "validation" else "test"
    before = evaluation.real.classes
    head, rows = table(seen, before, what)
    return ClassView(
        words.protocol_title(evaluation.protocol), note(evaluation, seen, what),
        words.coreset_title(result), before is not None, groups(seen, before),
        heat_map(seen, name), confusions(seen), head, rows,
    )  # fmt: skip


def note(evaluation: Evaluation, seen: ClassResults, what: str) -> str:
    """Balanced accuracy, and what was measured on; what: test or validation."""
    text = (
        f"Balanced accuracy, the mean over the classes: "
        f"{words.percent(evaluation.balanced_accuracy)}"
    )
    if evaluation.real.classes is not None:
        text += f", of random real images {words.percent(evaluation.real.balanced_accuracy)}"
    text += f"; {len(seen.tested)} classes of {seen.sizes} {what} images."
    if seen.networks > 1:
        text += f" Shares are means over {seen.networks} networks."
    missing = len(seen.names) - len(seen.tested)
    return text + (f" {words.plural(missing, 'class')} without {what} images." if missing else "")


def groups(seen: ClassResults, before: ClassResults | None) -> list[tuple[str, list[Bar]]]:
    """Accuracy of each class, with a tick at that of random real images; of many classes the ENDS
    least and the ENDS most accurate ones."""
    order = [int(at) for at in seen.tested]
    found: list[tuple[str, list[int]]] = [("", order)]
    if len(order) > MANY:
        order.sort(key=lambda at: (seen.accuracy[at], at))
        found = [
            (f"The {ENDS} least accurate of {len(order)} classes", order[:ENDS]),
            (f"The {ENDS} most accurate", order[-ENDS:]),
        ]
    return [(heading, [bar(seen, before, at) for at in rows]) for heading, rows in found]


def bar(seen: ClassResults, before: ClassResults | None, at: int) -> Bar:
    """The bar of a class."""
    tick = None
    if before is not None and at < len(before.accuracy) and not np.isnan(before.accuracy[at]):
        tick = f"{100 * before.accuracy[at]:.2f}%"
    accuracy = float(seen.accuracy[at])
    return Bar(
        seen.plain(at), f"{100 * accuracy:.2f}%", tick, words.percent(accuracy, digits=1),
        f"{seen.images[at]:,}",
    )  # fmt: skip


def confusions(seen: ClassResults) -> list[list[str]]:
    """The most frequent confusions in words, where the heat map has no numbers."""
    if len(seen.involved) <= NUMBERS:
        return []
    return [
        [seen.plain(a), seen.plain(b), words.percent(share, digits=1)]
        for a, b, share in seen.taken_for()[:CONFUSIONS]
    ]


def table(
    seen: ClassResults, before: ClassResults | None, what: str
) -> tuple[list[str], list[list[str]]]:
    """(head, rows): every class, its images, accuracies, and what it is most often taken for."""
    first: dict[int, tuple[int, float]] = {}
    for a, b, share in seen.taken_for():
        first.setdefault(a, (b, share))
    head = [
        "Class",
        f"{what.capitalize()} images",
        "Accuracy",
        "Random real",
        "Most often taken for",
    ]
    rows = []
    for at in range(len(seen.names)):
        other, share = first.get(at, (None, 0.0))
        wrong = "" if other is None else f"{seen.plain(other)}, {words.percent(share, digits=1)}"
        real = before.accuracy[at] if before is not None and at < len(before.accuracy) else None
        rows.append(
            [seen.plain(at), words.count(int(seen.images[at])), _percent(seen.accuracy[at]),
             _percent(real), wrong or words.NONE]
        )  # fmt: skip
    if before is None:
        head, rows = _without(3, head), [_without(3, row) for row in rows]
    return head, rows


def _without(at: int, cells: Sequence[str]) -> list[str]:
    return [*cells[:at], *cells[at + 1 :]]


def _percent(value: float | None) -> str:
    return words.percent(None if value is None else float(value))
