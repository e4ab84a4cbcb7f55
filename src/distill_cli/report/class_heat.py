"""The confusion matrix as a heat map.

Colours follow the page's, light or dark: a grey picture masks a rectangle of the page's colour. Of
many classes every tenth is named.
"""

import numpy as np

from distill_cli.report import words
from distill_cli.report.class_results import ClassResults
from distill_cli.report.heat import Box, data_uri
from distill_cli.report.images import png_bytes
from distill_cli.report.templating import Markup, macro

MANY = 20  # classes; of more, bars and names of a part only
SIDE = 420.0  # at most, of the heat map, in the units of its picture
NUMBERS = 12  # classes up to which a cell says its share
FAINTEST = 0.006  # a share of confusions below this has no number in its cell
DEEPEST = 0.62  # opacity of the fullest cell with a number in it, so that the number can be read


def heat_map(seen: ClassResults, name: str) -> Markup:
    """Shares of each true class (row) by predicted class (column): the diagonal on a scale up to
    100 %, the rest in a second colour on a scale up to the largest confusion."""
    kept = seen.involved
    shares, size = seen.shares[np.ix_(kept, kept)], len(kept)
    names = [seen.plain(at) for at in kept]
    diagonal = np.eye(size, dtype=bool)
    largest = float(shares[~diagonal].max(initial=0.0))
    deepest = DEEPEST if size <= NUMBERS else 1.0
    left = 12 + 6.6 * max(len(_short(one)) for one in names)
    turned = any(len(one) > 2 for one in names) and left > 24.0
    side, below = min(SIDE, max(300.0, 70.0 * size)), left if turned else 24.0
    cell, wide, high = side / size, left + side + 8, side + below
    rest = "" if seen.whole else "Only the largest confusions are recorded."
    spoken = f"Confusion matrix of {size} classes.", rest, _most_frequent(seen)
    named = range(0, size, 1 if size <= MANY else 10)
    return macro("heat.html", "confusions")(
        {
            "width": f"{wide:.0f}", "height": f"{high + 52:.0f}", "at_most": f"{1.12 * wide:.0f}",
            "spoken": " ".join(filter(None, spoken)), "note": rest,
            "box": Box(f"{left:.1f}", "0", f"{side:.0f}", f"{side:.0f}", True),
            "layers": [
                layer(shares * deepest, chosen, top, style, name)
                for chosen, top, style in (
                    (diagonal, 1.0, "right"), (~diagonal, largest or 1.0, "wrong"))
            ],
            "numbers": [
                (left + cell * (b + 0.5), cell * (a + 0.5) + 4, f"{100 * shares[a, b]:.0f}")
                for a in range(size)
                for b in range(size)
                if shares[a, b] >= FAINTEST or (a == b and seen.images[kept[a]])
            ] if size <= NUMBERS else [],
            "names": [
                {
                    "text": _short(names[at]), "y": cell * (at + 0.5) + 4,
                    "x": left + cell * (at + 0.5) + 4 * turned,
                }
                for at in named
            ],
            "names_x": left - 6, "turned": turned, "below": side + (7 if turned else 17),
            "scales_y": high + 10,
            "scales": [
                {
                    "style": style, "x": left + at * side / 2,
                    "text": f"{text}, up to {100 * top:.3g} %",
                    "steps": [
                        (left + at * side / 2 + 14 * k, f"{deepest * (k + 1) / 10:.3f}")
                        for k in range(10)
                    ],
                }
                for at, (style, text, top) in enumerate(
                    (("right", "right", 1.0), ("wrong", "taken for another", largest)))
            ],
        }
    )  # fmt: skip


def layer(
    shares: np.ndarray, chosen: np.ndarray, top: float, style: str, name: str
) -> dict[str, str]:
    """A grey picture of the chosen cells, `top` white, that masks a rectangle of the class `style`.

    Its pixels are several times as large as a cell: masks are smoothed when they are enlarged.
    """
    enlarge = np.ones((max(1, 600 // len(shares)),) * 2)
    grey = np.rint(255 * np.where(chosen, shares, 0) / top).astype(np.uint8)
    picture = data_uri(png_bytes(np.kron(grey, enlarge).astype(np.uint8)))
    return {"mask": f"{name}-{style}", "style": style, "picture": picture}


def _short(name: str) -> str:
    """A name that fits beside the heat map."""
    return name if len(name) <= 16 else name[:15] + "…"


def _most_frequent(seen: ClassResults) -> str:
    found = seen.taken_for()[:3]
    return "; ".join(
        f"{seen.plain(a)} taken for {seen.plain(b)}: {words.percent(share, digits=1)}"
        for a, b, share in found
    )
