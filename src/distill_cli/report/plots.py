"""Pictures drawn by matplotlib, for pages and as files: one look and one palette for all of them.

Same data, same bytes: a file holds no date, no version of matplotlib and no random identifiers.
Colours come from palette.py; curves also differ in their marks, so that a print without colour
still distinguishes them.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distill_cli.report import palette
from distill_cli.report.charts import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = tuple(light for light, _ in palette.COLOURS)
MARKS = "os^DvP*Xph"
GREY = "#6b7684"
SIZE = (7.0, 4.4)  # inches
DPI = 140
SETTINGS: Any = {
    "svg.hashsalt": "distill_cli", "svg.fonttype": "none", "font.size": 10, "axes.grid": True,
    "grid.color": "#dbe0e7", "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": GREY, "axes.titlesize": 11,
    "axes.titlelocation": "left", "legend.frameon": False, "legend.fontsize": 8,
}  # fmt: skip
METADATA: Any = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Curve(NamedTuple):
    """A named curve with points; no name: left out of the key.

    spread: half the length of the error bars, None where there is none; colour: a place in the
    palette, else the curve's own place; line: of matplotlib, "" for points alone; hollow: open
    marks.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float | None] | None = None
    colour: int | None = None
    line: str = "-"
    hollow: bool = False


class Level(NamedTuple):
    """A thin horizontal line to compare with; colour as of a Curve, None: grey."""

    y: float
    colour: int | None = None
    line: str = ":"
    name: str = ""


def pictures(
    draw: Callable[["Figure"], None], size: tuple[float, float], kinds: Sequence[str]
) -> list[bytes]:
    """The bytes of a picture in each kind (png, svg, pdf): `draw` on a fresh figure of `size`
    inches."""
    import matplotlib
    from matplotlib.figure import Figure

    made = []
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for kind in kinds:
            buffer, facts = io.BytesIO(), METADATA[kind]
            figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=facts)
            made.append(buffer.getvalue())
    return made


def picture(
    draw: Callable[["Figure"], None], size: tuple[float, float] = SIZE, kind: str = "png"
) -> bytes:
    """The same in one kind."""
    return pictures(draw, size, [kind])[0]


def curves(
    title: str, across: str, up: str, drawn: Sequence[Curve], levels: Sequence[Level] = (), *,
    log_x: bool = False, log_y: bool = False, at_points: bool = False, kind: str = "png",
) -> bytes:  # fmt: skip
    """A picture of curves over one another. across, up: names of the axes; at_points: ticks of the
    x axis at the points alone."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        plot(axes, drawn, levels)
        places = sorted({x for curve in drawn for x in curve.x})
        if log_x:
            axes.set_xscale("log")
        if at_points:
            plain_ticks(axes.xaxis, places)
        elif log_x:
            low, high = math.log10(places[0]), math.log10(places[-1])
            plain_ticks(axes.xaxis, Scale(low, high, True).ticks(5))
        if log_y:
            axes.set_yscale("log")
        axes.set(title=title, xlabel=across, ylabel=up)
        key(axes, len(drawn))

    return picture(draw, kind=kind)


def plot(axes: "Axes", drawn: Sequence[Curve], levels: Sequence[Level] = ()) -> None:
    """Curves with their marks and error bars, and levels, on these axes."""
    for place, curve in enumerate(drawn):
        number = place if curve.colour is None else curve.colour
        spread = None if curve.spread is None else [s or 0.0 for s in curve.spread]
        axes.errorbar(
            curve.x, curve.y, spread, label=curve.name or None, color=tint(number), capsize=2.5,
            marker=MARKS[number % len(MARKS)], markersize=5, linewidth=1.5, linestyle=curve.line,
            markerfacecolor="white" if curve.hollow else None,
        )  # fmt: skip
    for level in levels:
        colour = GREY if level.colour is None else tint(level.colour)
        label = level.name or None
        axes.axhline(level.y, color=colour, linestyle=level.line, linewidth=1.0, label=label)


def tint(number: int) -> str:
    """The colour of a place in the palette; after the last it begins again."""
    return COLOURS[number % len(COLOURS)]


def key(axes: "Axes", count: int) -> None:
    """The key below the axes, where there is something to distinguish."""
    labels = axes.get_legend_handles_labels()[1]
    if count > 1 or len(labels) > count:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=min(3, len(labels)))


def bars(title: str, up: str, names: Sequence[str], values: Sequence[float]) -> bytes:
    """A picture with one bar for each name; of many names some are written."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.bar(range(len(values)), values, color=COLOURS[0])
        shown = range(0, len(names), max(1, len(names) // 40))
        axes.set_xticks(list(shown), [names[i] for i in shown], rotation=60, ha="right", fontsize=8)
        axes.set(title=title, ylabel=up)
        axes.grid(visible=False, axis="x")

    return picture(draw, (max(SIZE[0], 0.22 * len(names)), SIZE[1]))


def plain_ticks(axis: Any, values: Iterable[float]) -> None:
    """Ticks at these values alone, written as plain numbers; labels that would overlap are left
    out."""
    kept: list[float] = []
    for value in map(float, values):
        if not kept or abs(value) >= 1.2 * abs(kept[-1]):
            kept.append(value)
    axis.set_ticks(kept, labels=[f"{v:.4g}" for v in kept])
    axis.set_ticks([], minor=True)
