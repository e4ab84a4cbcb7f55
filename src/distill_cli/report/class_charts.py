"""What an evaluation says of each class, as HTML: bars, a confusion heat map, a table.

Of many classes the bars show the least and the most accurate ones and the heat map every tenth
name; the table has all of them. Colours follow the page's, light or dark: the heat map is a grey
picture that masks a rectangle of the page's colour.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from distill_cli.report import sections, words
from distill_cli.report.class_results import ClassResults, class_results
from distill_cli.report.headline import headline
from distill_cli.report.heat import data_uri
from distill_cli.report.images import png_bytes
from distill_cli.report.results import baseline, evaluations

MANY = 20  # classes; of more, bars and names of a part only
ENDS = 10  # bars at each end then
CONFUSIONS = 10  # pairs in the list of the most frequent confusions
SIDE = 420.0  # at most, of the heat map, in the units of its picture
NUMBERS = 12  # classes up to which a cell says its share
FAINTEST = 0.006  # a share of confusions below this has no number in its cell
DEEPEST = 0.62  # opacity of the fullest cell with a number in it, so that the number can be read


def classes_part(result: Mapping[str, Any]) -> str:
    """HTML of every evaluation with classes: that of the headline in full, the others folded; ""
    where there is none."""
    main = headline(result)
    found = [(e, seen) for e in evaluations(result) if (seen := class_results(e, e.get("images")))]
    found.sort(key=lambda pair: pair[0] is not main)
    parts = []
    for at, (e, seen) in enumerate(found):
        before = class_results(baseline(e), e.get("images"))
        what = "validation" if e.get("split") == "validation" else "test"
        part = evaluation_part(e, seen, before, words.coreset_title(result), what, f"c{at}")
        title = escape(words.protocol_title(e.get("protocol")))
        parts.append(
            f'<h3 class="sub">{title}</h3>{part}'
            if at == 0
            else f"<details><summary>{title}</summary>{part}</details>"
        )
    return "\n".join(parts)


def evaluation_part(
    evaluation: Mapping[str, Any],
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
        f"{words.percent(evaluation.get('balanced_accuracy'))}"
    )
    if before is not None:
        other = baseline(evaluation).get("balanced_accuracy")
        note += f", of random real images {words.percent(other)}"
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


def heat_map(seen: ClassResults, name: str) -> str:
    """Shares of each true class (row) by predicted class (column): the diagonal on a scale up to
    100 %, the rest in a second colour on a scale up to the largest confusion."""
    kept = seen.involved
    shares, size = seen.shares[np.ix_(kept, kept)], len(kept)
    names = [seen.names[at].replace("_", " ") for at in kept]
    diagonal = np.eye(size, dtype=bool)
    largest = float(shares[~diagonal].max(initial=0.0))
    numbered = size <= NUMBERS
    deepest = DEEPEST if numbered else 1.0
    # Grey pixels several times as large as a cell: masks are smoothed when they are enlarged.
    enlarge = np.ones((max(1, 600 // size),) * 2)
    layers = ((diagonal, 1.0, "right"), (~diagonal, largest or 1.0, "wrong"))
    left = 12 + 6.6 * max(len(_short(one)) for one in names)
    below = left if any(len(one) > 2 for one in names) else 24.0
    side = min(SIDE, max(300.0, 70.0 * size))
    cell = side / size
    drawn = ""
    for chosen, top, style in layers:
        grey = np.rint(255 * deepest * np.where(chosen, shares, 0) / top).astype(np.uint8)
        picture = data_uri(png_bytes(np.kron(grey, enlarge).astype(np.uint8)))
        where = f'x="{left:.1f}" y="0" width="{side:.0f}" height="{side:.0f}"'
        drawn += (
            f'<mask id="{name}-{style}"><image href="{picture}" {where} '
            'preserveAspectRatio="none" style="image-rendering:pixelated"/></mask>'
            f'<rect class="{style}" {where} mask="url(#{name}-{style})"/>'
        )
    drawn += f'<rect class="frame" x="{left:.1f}" y="0" width="{side:.0f}" height="{side:.0f}"/>'
    if numbered:
        drawn += "".join(
            f'<text class="cell" x="{left + cell * (b + 0.5):.1f}" y="{cell * (a + 0.5) + 4:.1f}">'
            f"{100 * shares[a, b]:.0f}</text>"
            for a in range(size)
            for b in range(size)
            if shares[a, b] >= FAINTEST or (a == b and seen.images[kept[a]])
        )
    for at in range(0, size, 1 if size <= MANY else 10):
        place, text = cell * (at + 0.5), escape(_short(names[at]))
        drawn += (
            f'<text x="{left - 6:.1f}" y="{place + 4:.1f}" text-anchor="end">{text}</text>'
            + _under(left + place, side, text, below > 24.0)
        )
    high, wide = side + below, left + side + 8
    drawn += _scales(left, high, side, largest, deepest)
    rest = "" if seen.whole else " Only the largest confusions are recorded."
    said = (
        f"Confusion matrix of {size} classes. {rest}".strip() + f" {_most_frequent(seen)}"
    ).strip()
    return (
        '<figure class="chart"><figcaption><b>Confusions</b><span class="keys">row: true class, '
        'column: predicted; % of the row</span></figcaption><div class="heat" tabindex="0">'
        f'<svg class="heat square" viewBox="0 -8 {wide:.0f} {high + 52:.0f}" role="img" '
        f'style="max-width:{1.12 * wide:.0f}px" '
        f'aria-label="{escape(said, quote=True)}">{drawn}</svg></div>'
        + (f'<p class="note">{rest.strip()}</p>' if rest else "")
        + "</figure>"
    )


def _under(x: float, side: float, text: str, turned: bool) -> str:
    """A name below its column."""
    if not turned:
        return f'<text x="{x:.1f}" y="{side + 17:.1f}" text-anchor="middle">{text}</text>'
    y = side + 7
    return (
        f'<text x="{x + 4:.1f}" y="{y:.1f}" text-anchor="end" '
        f'transform="rotate(-90 {x + 4:.1f} {y:.1f})">{text}</text>'
    )


def _scales(left: float, y: float, side: float, largest: float, deepest: float) -> str:
    """The two colour scales, side by side."""
    drawn = ""
    tops = (("right", "right", 1.0), ("wrong", "taken for another", largest))
    for at, (style, text, top) in enumerate(tops):
        x = left + at * side / 2
        stops = "".join(
            f'<rect class="{style}" x="{x + 14 * k:.1f}" y="{y + 10:.1f}" width="14" height="10" '
            f'fill-opacity="{deepest * (k + 1) / 10:.3f}"/>'
            for k in range(10)
        )
        drawn += f'{stops}<text x="{x:.1f}" y="{y + 35:.1f}">{text}, up to {100 * top:.3g} %</text>'
    return drawn


def confusions(seen: ClassResults) -> str:
    """The most frequent confusions in words, where the heat map has no numbers."""
    found = seen.taken_for()[:CONFUSIONS]
    if len(seen.involved) <= NUMBERS or not found:
        return ""
    rows = [
        [_plain(seen, a), _plain(seen, b), words.percent(share, digits=1)] for a, b, share in found
    ]
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
        wrong = "" if other is None else f"{_plain(seen, other)}, {words.percent(share, digits=1)}"
        real = before.accuracy[at] if before is not None and at < len(before.accuracy) else None
        rows.append(
            [_plain(seen, at), words.count(int(seen.images[at])), _percent(seen.accuracy[at]),
             _percent(real), wrong or words.NONE]
        )  # fmt: skip
    if before is None:
        head, rows = _without(3, head), [_without(3, row) for row in rows]
    return sections.table(head, rows)


def _without(at: int, cells: Sequence[str]) -> list[str]:
    return [*cells[:at], *cells[at + 1 :]]


def _percent(value: float | None) -> str:
    return words.percent(None if value is None else float(value))


def _plain(seen: ClassResults, at: int) -> str:
    return seen.names[at].replace("_", " ")


def _name(seen: ClassResults, at: int) -> str:
    return escape(_plain(seen, at))


def _short(name: str) -> str:
    """A name that fits beside the heat map."""
    return name if len(name) <= 16 else name[:15] + "…"


def _most_frequent(seen: ClassResults) -> str:
    found = seen.taken_for()[:3]
    return "; ".join(
        f"{_plain(seen, a)} taken for {_plain(seen, b)}: {words.percent(share, digits=1)}"
        for a, b, share in found
    )
