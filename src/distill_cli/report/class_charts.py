"""What an evaluation says of each class, as HTML: bars, a confusion heat map, a table.

Of many classes the bars show the least and the most accurate ones; the table has all
of them.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from distill_cli.report import sections, words
from distill_cli.report.class_heat import MANY, NUMBERS, heat_map
from distill_cli.report.class_results import ClassResults
from distill_cli.report.headline import headline
from distill_cli.report.run_result import Evaluation, RunResult

ENDS = 10  # bars at each end, of more than MANY classes
CONFUSIONS = 10  # pairs in the list of the most frequent confusions


def classes_part(result: RunResult) -> str:
    """HTML of every evaluation with classes: that of the headline in full, the others folded; ""
    where there is none."""
    main = headline(result)
    found = [(e, seen) for e in result.evaluations if (seen := e.classes)]
    found.sort(key=lambda pair: pair[0] is not main)
    parts = []
    for at, (e, seen) in enumerate(found):
        what = "validation" if e.split == "validation" else "test"
        part = evaluation_part(e, seen, e.real.classes, words.coreset_title(result), what, f"c{at}")
        title = escape(words.protocol_title(e.protocol))
        parts.append(
            f'<h3 class="sub">{title}</h3>{part}'
            if at == 0
            else f"<details><summary>{title}</summary>{part}</details>"
        )
    return "\n".join(parts)


def evaluation_part(
    evaluation: Evaluation,
    seen: ClassResults,
    before: ClassResults | None,
    title: str,
    what: str,
    name: str,
) -> str:
    """Bars and heat map side by side, the table folded below. before: of random real images; title:
    of the coreset; what: the images measured on; name: of the masks, one of its own on a page."""
    note = (
        f"Balanced accuracy, the mean over the classes: "
        f"{words.percent(evaluation.balanced_accuracy)}"
    )
    if before is not None:
        note += f", of random real images {words.percent(evaluation.real.balanced_accuracy)}"
    note += f"; {len(seen.tested)} classes of {seen.sizes} {what} images."
    if seen.networks > 1:
        note += f" Shares are means over {seen.networks} networks."
    if len(seen.tested) < len(seen.names):
        note += (
            f" {words.plural(len(seen.names) - len(seen.tested), 'class')} without {what} images."
        )
    rows = table(seen, before, what)
    return (
        f'<p class="note">{note}</p><div class="two classes"><div>{bars(seen, before, title)}</div>'
        f"<div>{heat_map(seen, name)}{confusions(seen)}</div></div>"
        f"<details><summary>All classes as a table</summary>{rows}</details>"
    )


def bars(seen: ClassResults, before: ClassResults | None, title: str) -> str:
    """Accuracy of each class, with a tick at that of random real images; of many classes the ENDS
    least and the ENDS most accurate ones."""
    order = [int(at) for at in seen.tested]
    groups: list[tuple[str, list[int]]] = [("", order)]
    if len(order) > MANY:
        order.sort(key=lambda at: (seen.accuracy[at], at))
        groups = [
            (f"The {ENDS} least accurate of {len(order)} classes", order[:ENDS]),
            (f"The {ENDS} most accurate", order[-ENDS:]),
        ]
    keys = f'<span class="key"><i class="box"></i>{escape(title)}</span>'
    if before is not None:
        keys += '<span class="key"><i class="tick"></i>random real images</span>'
    drawn = ""
    for head, rows in groups:
        drawn += f'<h4 class="note">{head}</h4>' if head else ""
        drawn += "".join(_bar(seen, before, at) for at in rows)
    return (
        '<figure class="chart byclass"><figcaption><b>Accuracy of each class</b>'
        f'<span class="keys">{keys}</span></figcaption>{drawn}</figure>'
    )


def _bar(seen: ClassResults, before: ClassResults | None, at: int) -> str:
    tick = ""
    if before is not None and at < len(before.accuracy) and not np.isnan(before.accuracy[at]):
        tick = f'<i class="tick" style="left:{100 * before.accuracy[at]:.2f}%"></i>'
    return (
        f'<div class="bar"><span>{_name(seen, at)}</span><div class="track" aria-hidden="true">'
        f'<div class="fill ours" style="width:{100 * seen.accuracy[at]:.2f}%"></div>{tick}</div>'
        f'<span class="val">{words.percent(float(seen.accuracy[at]), digits=1)} '
        f"<small>of {seen.images[at]:,}</small></span></div>"
    )


def confusions(seen: ClassResults) -> str:
    """The most frequent confusions in words, where the heat map has no numbers."""
    found = seen.taken_for()[:CONFUSIONS]
    if len(seen.involved) <= NUMBERS or not found:
        return ""
    rows = [[seen.plain(a), seen.plain(b), words.percent(share, digits=1)] for a, b, share in found]
    return '<h4 class="note">The most frequent confusions</h4>' + sections.table(
        ("True class", "Taken for", "Share of the class"), rows, style="left"
    )


def table(seen: ClassResults, before: ClassResults | None, what: str) -> str:
    """Every class with its images, accuracies, and what it is most often taken for."""
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
    return sections.table(head, rows)


def _without(at: int, cells: Sequence[str]) -> list[str]:
    return [*cells[:at], *cells[at + 1 :]]


def _percent(value: float | None) -> str:
    return words.percent(None if value is None else float(value))


def _name(seen: ClassResults, at: int) -> str:
    return escape(seen.plain(at))
