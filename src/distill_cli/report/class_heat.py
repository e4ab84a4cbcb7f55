"""The confusion matrix as a heat map.

Colours follow the page's, light or dark: a grey picture masks a rectangle of the page's colour. Of
many classes every tenth is named.
"""

from html import escape

import numpy as np

from distill_cli.report import words
from distill_cli.report.class_results import ClassResults
from distill_cli.report.heat import data_uri
from distill_cli.report.images import png_bytes

MANY = 20  # classes; of more, bars and names of a part only
SIDE = 420.0  # at most, of the heat map, in the units of its picture
NUMBERS = 12  # classes up to which a cell says its share
FAINTEST = 0.006  # a share of confusions below this has no number in its cell
DEEPEST = 0.62  # opacity of the fullest cell with a number in it, so that the number can be read


def heat_map(seen: ClassResults, name: str) -> str:
    """Shares of each true class (row) by predicted class (column): the diagonal on a scale up to
    100 %, the rest in a second colour on a scale up to the largest confusion."""
    kept = seen.involved
    shares, size = seen.shares[np.ix_(kept, kept)], len(kept)
    names = [seen.plain(at) for at in kept]
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


def _short(name: str) -> str:
    """A name that fits beside the heat map."""
    return name if len(name) <= 16 else name[:15] + "…"


def _most_frequent(seen: ClassResults) -> str:
    found = seen.taken_for()[:3]
    return "; ".join(
        f"{seen.plain(a)} taken for {seen.plain(b)}: {words.percent(share, digits=1)}"
        for a, b, share in found
    )
