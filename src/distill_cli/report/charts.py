"""Charts as inline SVG text: they follow the page's colours, stay sharp, and need no library.

Colours come from CSS classes (`line-a`, `line-b` of report.css; `c0`, `c1`, ... of a site); the
first two differ in width as well as hue, so that they can be distinguished without colour.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from distill_cli.report.templating import Markup, render

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 18, 40
POINTS = 400  # more would not be seen at this width
SPOKEN = 4  # series described in the text for screen readers


class Series(NamedTuple):
    """A named curve. style is the CSS class of the line: line-a (thin), line-b (thick), c0, ...

    run: the run it shows, for pages that hide runs; dots: only points, no line between them.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str
    run: int | None = None
    dots: bool = False


class Chart(NamedTuple):
    """What a chart shows, apart from how it is drawn (`draw` here, figures.py for files).

    text, x_text: values in words; mark: the best step, a dashed line; zero: the axis starts at 0,
    else a range of more than a factor 30, all positive, is drawn on a logarithmic axis; x_log: the
    same for x; square: both axes from 0 to 1 with the diagonal between (reliability diagram).
    """

    title: str
    series: Sequence[Series]
    text: Callable[[float], str] = lambda v: f"{v:g}"
    mark: float | None = None
    zero: bool = False
    x_name: str = "step"
    x_text: Callable[[float], str] = lambda v: f"{v:,.0f}"
    x_log: bool = False
    square: bool = False


class Scale(NamedTuple):
    """An axis: values from bottom to top (logarithms of them where log) on [0, 1]."""

    bottom: float
    top: float
    log: bool

    def place(self, value: float) -> float:
        return ((math.log10(value) if self.log else value) - self.bottom) / (self.top - self.bottom)

    def ticks(self, target: int) -> list[float]:
        """Round values on the axis."""
        if not self.log:
            return ticks(self.bottom, self.top, target)
        low, high = math.floor(self.bottom), math.ceil(self.top)
        decades = [10.0**k for k in range(math.ceil(self.bottom), math.floor(self.top) + 1)]
        inside = [m * 10.0**k for k in range(low, high) for m in (1, 2, 5)]
        few = [v for v in inside if self.bottom <= math.log10(v) <= self.top]
        found = few if len(decades) < 3 else decades
        return found if len(found) > 1 else ticks(10**self.bottom, 10**self.top, target)


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


def per_cent(value: float) -> str:
    """0.25 as "25 %"."""
    return f"{100 * value:g} %" if value else "0 %"


def reliability_chart(title: str, series: Sequence[Series]) -> Chart:
    """A reliability diagram: accuracy against confidence, with the diagonal."""
    return Chart(title, series, per_cent, x_name="confidence", x_text=per_cent, square=True)


def scales(chart: Chart) -> tuple[Scale, Scale]:
    """The x and the y axis of a chart that has points."""
    if chart.square:
        return Scale(0.0, 1.0, False), Scale(0.0, 1.0, False)
    values = [v for s in chart.series for v in s.y]
    low, high = min(values), max(values)
    log = low > 0 and high > 30 * low and not chart.zero
    bottom, top = (math.log10(low), math.log10(high)) if log else (low, high)
    pad = 0.06 * (top - bottom) or 0.05 * abs(top) or 0.5
    y = Scale(0.0 if chart.zero else bottom - pad, top + pad, log)
    places = [v for s in chart.series for v in s.x]
    first, last = min(places), max(places)
    if chart.x_log and first > 0:
        first, last = math.log10(first), math.log10(last)
        pad = 0.06 * (last - first) or 0.3
        return Scale(first - pad, last + pad, True), y
    if any(s.dots for s in chart.series):  # points on the edge would be cut off
        pad = 0.06 * (last - first) or 0.5
        return Scale(first - pad, last + pad, False), y
    return Scale(first, last if last > first else first + 1, False), y


def line_chart(
    title: str,
    series: Sequence[Series],
    text: Callable[[float], str] = lambda v: f"{v:g}",
    mark: float | None = None,
    zero: bool = False,
) -> Markup:
    """Curves over steps: `draw` of a Chart."""
    return draw(Chart(title, series, text, mark, zero))


def draw(chart: Chart, note: str = "") -> Markup:
    """A chart as a <figure> with its key; "" without data. note: HTML below the picture."""
    chart = chart._replace(series=[s for s in chart.series if len(s.y)])
    if not chart.series:
        return Markup("")
    across, up = scales(chart)
    text = chart.text

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * across.place(x),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up.place(y),
        )

    corner = (chart.series[0].x[0], chart.series[0].y[0])
    ticks = {chart.x_text(value): value for value in across.ticks(4)}  # each number once
    return render(
        "chart.html", title=chart.title, log=up.log, x_name=chart.x_name, note=note,
        width=WIDTH, height=HEIGHT, left=LEFT, right=WIDTH - RIGHT, top=TOP, bottom=HEIGHT - BOTTOM,
        keys=list(dict.fromkeys((s.name, s.style) for s in chart.series if s.name)),
        spoken=spoken(chart),
        rows=[(at(corner[0], value)[1], text(value)) for value in up.ticks(6)],
        columns=[(at(value, corner[1])[0], label) for label, value in ticks.items()],
        diagonal=(*at(0, 0), *at(1, 1)) if chart.square else None,
        mark=best_step(chart.mark, at(chart.mark, corner[1])[0])
        if chart.mark is not None and across.bottom <= chart.mark <= across.top
        else None,
        lines=[line(s, at, chart.square) for s in chart.series],
    )  # fmt: skip


def spoken(chart: Chart) -> str:
    """The chart in words, for screen readers."""
    text = chart.text
    described = "; ".join(
        f"{s.name} from {text(s.y[0])} at {chart.x_name} {chart.x_text(s.x[0])} "
        f"to {text(s.y[-1])} at {chart.x_name} {chart.x_text(s.x[-1])}"
        for s in chart.series[:SPOKEN]
    )
    more = f"; and {len(chart.series) - SPOKEN} more" if len(chart.series) > SPOKEN else ""
    return f"{chart.title}: {described}{more}"


def best_step(step: float, x: float) -> dict[str, object]:
    """The dashed line at the best step, with its text on the side where there is room."""
    anchor, shift = ("end", -6) if x > WIDTH / 2 else ("start", 6)
    return {"x": x, "text_x": x + shift, "anchor": anchor, "step": f"{step:,.0f}"}


class Line(NamedTuple):
    """A series in the picture: its path ("": none), and its points (x, y) of a radius."""

    name: str
    style: str
    run: int | None
    path: str
    circles: list[tuple[float, float]]
    radius: int


def line(s: Series, at: Callable[[float, float], tuple[float, float]], dotted: bool) -> Line:
    """The line of a series, dotted: with its points, or these alone where it has no line."""
    xs, ys = (list(s.x), list(s.y)) if s.dots else thin(s.x, s.y)
    points = [at(x, y) for x, y in zip(xs, ys, strict=True)]
    alone = s.dots or len(points) == 1
    path = "" if alone else " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    circles = points if alone or dotted else []
    return Line(s.name, s.style, s.run, path, circles, 5 if s.dots else 3)
