"""Charts as inline SVG text: they follow the page's colours, stay sharp, and need no library.

Colours come from the CSS classes of report.css (`line-a`, `line-b`, ...); series differ in width as
well as hue, so that they can be told apart without colour.
"""

import base64
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from distill_cli.report.images import png_bytes

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 18, 40
POINTS = 400  # more would not be seen at this width


class Series(NamedTuple):
    """A named curve. style is the CSS class of the line: line-a (thin), line-b (thick)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """About `target` round values (1, 2, 2.5 or 5 times a power of ten) inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / target
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points: each the mean of as many neighbours as that takes."""
    group = math.ceil(len(x) / POINTS)
    if group <= 1:
        return list(x), list(y)
    starts = range(0, len(x), group)
    return tuple([float(np.mean(v[i : i + group])) for i in starts] for v in (x, y))  # pyright: ignore


def line_chart(
    title: str,
    series: Sequence[Series],
    text: Callable[[float], str] = lambda v: f"{v:g}",
    mark: float | None = None,
    zero: bool = False,
) -> str:
    """Curves over steps with the step `mark` (the best one) as a dashed line; "" without data.

    zero lets the axis start at 0; else a range of more than a factor 30, all positive, is drawn on
    a logarithmic axis.
    """
    series = [s for s in series if len(s.y)]
    if not series:
        return ""
    values = [v for s in series for v in s.y]
    low, high = min(values), max(values)
    log = low > 0 and high > 30 * low and not zero
    scale: Callable[[float], float] = math.log10 if log else float
    bottom, top = scale(low), scale(high)
    pad = 0.06 * (top - bottom) or 0.05 * abs(top) or 0.5
    bottom, top = 0.0 if zero else bottom - pad, top + pad
    first, last = min(s.x[0] for s in series), max(s.x[-1] for s in series)
    last = last if last > first else first + 1

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / (last - first)
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scale(y) - bottom) / (
            top - bottom
        )

    parts: list[str] = []
    for value in _axis(bottom, top, log):
        y = at(first, value)[1]
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text(value)}</text>')
    for value in ticks(first, last, 4):
        x = at(value, high)[0]
        y = HEIGHT - BOTTOM + 18
        parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{value:,.0f}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    if mark is not None and first <= mark <= last:
        x = at(mark, high)[0]
        side = ("end", -6) if x > WIDTH / 2 else ("start", 6)
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
        parts.append(
            f'<text class="mark" x="{x + side[1]:.1f}" y="{TOP - 5}" text-anchor="{side[0]}">'
            f"best: step {mark:,.0f}</text>"
        )
    for s in series:
        xs, ys = thin(s.x, s.y)
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline class="{s.style}" points="{path}"/>')
        if len(xs) == 1:
            x, y = at(xs[0], ys[0])
            parts.append(f'<circle class="{s.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    described = "; ".join(
        f"{s.name} from {text(s.y[0])} at step {s.x[0]:,.0f} "
        f"to {text(s.y[-1])} at step {s.x[-1]:,.0f}"
        for s in series
    )
    legend = "".join(
        f'<span class="key"><svg width="26" height="10" aria-hidden="true"><line class="{s.style}" '
        f'x1="1" x2="25" y1="5" y2="5"/></svg>{escape(s.name)}</span>'
        for s in series
    )
    note = ", logarithmic" if log else ""
    spoken = escape(f"{title}: {described}", quote=True)
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b>{note}<span class="keys">{legend}'
        f'</span></figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{spoken}">{"".join(parts)}</svg></figure>'
    )


def _axis(bottom: float, top: float, log: bool) -> list[float]:
    if not log:
        return ticks(bottom, top, 6)
    decades = [10.0**k for k in range(math.ceil(bottom), math.floor(top) + 1)]
    few = len(decades) < 3
    inside = [m * 10.0**k for k in range(math.floor(bottom), math.ceil(top)) for m in (1, 2, 5)]
    return [v for v in inside if bottom <= math.log10(v) <= top] if few else decades


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """Values in [-limit, limit] as colours (..., 3) uint8: blue, white, red (ColorBrewer RdBu)."""
    stops = np.array(
        [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]]
    )
    place = np.clip(np.nan_to_num(values) / limit, -1, 1)
    mixed = [np.interp(place, [-1, -0.5, 0, 0.5, 1], stops[:, k]) for k in range(3)]
    return np.rint(np.stack(mixed, axis=-1)).astype(np.uint8)


def label_map(labels: np.ndarray, names: Sequence[str]) -> str:
    """The label matrix as a heat map: one column per coreset image, one row per class."""
    n, classes = labels.shape
    limit = float(np.nanmax(np.abs(labels))) or 1.0
    cells = data_uri(png_bytes(diverging(labels.T, limit)))
    shown = range(classes) if classes <= 20 else range(0, classes, 10)
    left = 8 + 6.9 * max(len(names[c]) for c in shown)
    wide, row = 640.0, 20.0 if classes <= 20 else max(2.5, 360 / classes)
    high, plot = row * classes, wide - left
    parts = [
        f'<text x="{left - 7:.0f}" y="{row * (c + 0.5) + 4.5:.1f}" text-anchor="end">'
        f"{escape(names[c].replace('_', ' '))}</text>"
        for c in shown
    ]
    parts.append(
        f'<image href="{cells}" x="{left:.0f}" y="0" width="{plot:.0f}" height="{high:.0f}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )
    bar = data_uri(png_bytes(diverging(np.linspace(-1, 1, 101)[None], 1.0)))
    y = high + 34
    parts.append(
        f'<text x="{left:.0f}" y="{high + 20:.0f}">{n} coreset images, class by class</text>'
    )
    parts.append(
        f'<image href="{bar}" x="{wide - 200:.0f}" y="{high + 8:.0f}" width="200" height="12" '
        'preserveAspectRatio="none"/>'
    )
    for place, value in ((0, -limit), (100, 0.0), (200, limit)):
        anchor = {0: "start", 100: "middle", 200: "end"}[place]
        parts.append(
            f'<text x="{wide - 200 + place:.0f}" y="{y:.0f}" text-anchor="{anchor}">'
            f"{value:.2g}</text>"
        )
    return (
        f'<div class="heat" tabindex="0">'
        f'<svg class="heat" viewBox="0 0 {wide:.0f} {high + 40:.0f}" '
        'role="img" aria-label="Heat map of the '
        f"learned labels, {n} images by {classes} classes, values from {labels.min():.3g} to "
        f'{labels.max():.3g}">{"".join(parts)}</svg></div>'
    )


def data_uri(png: bytes) -> str:
    """A PNG as a data: address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
