"""The charts and sheets of a site as PNG and SVG files, drawn by matplotlib from the same data.

Same data, same bytes: no dates and no random identifiers are written.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_cli.core.files import write_bytes
from distill_cli.report import plots
from distill_cli.report.charts import Chart, scales, thin
from distill_cli.report.palette import BARS
from distill_cli.report.rowcharts import BarChart, DotChart
from distill_cli.report.sheets import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


def write(folder: Path, slug: str, drawn: Chart | DotChart | BarChart | list[Sheet]) -> list[str]:
    """Write `folder`/slug.png and .svg; their names."""
    size, paint = painter(drawn)
    names = [f"{slug}.{kind}" for kind in FORMATS]
    for name, data in zip(names, plots.pictures(paint, size, FORMATS), strict=True):
        write_bytes(folder / name, data)
    return names


def painter(
    drawn: Chart | DotChart | BarChart | list[Sheet],
) -> tuple[tuple[float, float], Callable[["Figure"], None]]:
    """(size in inches, what draws it on a figure)."""
    if isinstance(drawn, list):
        return (3.2 * len(drawn), 4.0), lambda figure: paint_sheets(figure, drawn)
    if isinstance(drawn, Chart):
        size = (5.4, 5.0) if drawn.square else (6.6, 4.2)
        return size, lambda figure: paint_chart(figure.add_subplot(), drawn)
    size = (7.4, 1.4 + 0.42 * len(drawn.rows))
    if isinstance(drawn, DotChart):
        return size, lambda figure: paint_dots(figure.add_subplot(), drawn)
    return size, lambda figure: paint_bars(figure.add_subplot(), drawn)


def colour(style: str) -> dict[str, Any]:
    """The colour and dash of a CSS class `run c3 dashed`."""
    number = next((int(part[1:]) for part in style.split() if part[0] == "c"), 0)
    return {"color": plots.tint(number), "linestyle": "--" if "dashed" in style else "-"}


def paint_chart(axes: "Axes", chart: Chart) -> None:
    """Curves or points with the axes of the page."""
    across, up = scales(chart)
    named: set[str] = set()
    for s in chart.series:
        label = None if s.name in named else s.name
        named.add(s.name)
        look = colour(s.style)
        if s.dots:
            axes.plot(s.x, s.y, "o", color=look["color"], label=label)
        else:
            marker = "o" if chart.square or len(s.x) == 1 else ""
            x, y = thin(s.x, s.y)
            axes.plot(x, y, linewidth=1.6, label=label, marker=marker, markersize=4, **look)
    if chart.square:
        axes.plot([0, 1], [0, 1], color=plots.GREY, linestyle=":", linewidth=1.2)
        axes.set_aspect("equal")
    for scale, setter in ((across, axes.set_xscale), (up, axes.set_yscale)):
        if scale.log:
            setter("log")
    axes.set_xlim(*ends(across))
    axes.set_ylim(*ends(up))
    label_ticks(axes.xaxis, across.ticks(4), chart.x_text)
    label_ticks(axes.yaxis, up.ticks(6), chart.text)
    axes.set(title=chart.title, xlabel=chart.x_name)
    if len(named) <= 12:
        axes.legend(fontsize=8, loc="best")


def ends(scale: Any) -> tuple[float, float]:
    """The axis's ends as values."""
    return (10**scale.bottom, 10**scale.top) if scale.log else (scale.bottom, scale.top)


def label_ticks(axis: Any, values: list[float], text: Callable[[float], str]) -> None:
    """Ticks at these values, in the page's words."""
    axis.set_ticks(values, labels=[text(v) for v in values])
    axis.set_ticks([], minor=True)


def paint_dots(axes: "Axes", chart: DotChart) -> None:
    """Means with error bars; single runs, random images and published figures beside them."""
    for place, row in enumerate(chart.rows):
        tint = colour(row.style)["color"]
        axes.errorbar(row.mean, place, xerr=row.std, fmt="o", color=tint, capsize=4, markersize=8)
        if len(row.values) > 1:
            axes.plot(row.values, [place] * len(row.values), "|", color=tint, alpha=0.8)
        if row.random is not None:
            axes.plot(row.random, place, "o", color=plots.GREY, markerfacecolor="none")
        if row.published is not None:
            axes.plot(row.published, place, "D", color="#a8791b", markerfacecolor="none")
    low, high = chart.range()
    axes.set_xlim(low, high)
    lines(axes, chart.title, [f"{row.name} (n={len(row.values)})" for row in chart.rows])
    axes.xaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
    kinds = {"o": "mean ± std over seeds", "|": "one run", "ring": "random real images",
             "D": "published"}  # fmt: skip
    for mark, text in kinds.items():
        hollow = mark in ("ring", "D")
        axes.plot([], [], "o" if mark == "ring" else mark, color=plots.GREY, label=text,
                  markerfacecolor="none" if hollow else plots.GREY)  # fmt: skip
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.16))


def paint_bars(axes: "Axes", chart: BarChart) -> None:
    """Stacked bars with the total at their ends."""
    for place, row in enumerate(chart.rows):
        left = 0.0
        for k, value in enumerate(row.parts):
            axes.barh(
                place, value, left=left, color=BARS[k if len(chart.keys) > 1 else 1][0], height=0.6
            )
            left += value
        axes.text(left, place, f" {row.text}", va="center", fontsize=8)
    lines(axes, chart.title, [row.name for row in chart.rows])
    axes.xaxis.set_major_formatter(lambda v, _: chart.text(v))
    axes.tick_params(axis="x", labelsize=8)
    if len(chart.keys) > 1:
        for k, key in enumerate(chart.keys):
            axes.barh([0], [0], color=BARS[k][0], label=key)
        axes.legend(fontsize=8, loc="lower right")


def lines(axes: "Axes", title: str, names: Sequence[str]) -> None:
    """Names from the top down."""
    axes.set_title(title)
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def paint_sheets(figure: "Figure", sheets: list[Sheet]) -> None:
    """All sheets of a run side by side."""
    for axes, sheet in zip(figure.subplots(1, len(sheets), squeeze=False)[0], sheets, strict=True):
        axes.imshow(sheet.picture, interpolation="nearest")
        axes.set_title(sheet.title, fontsize=9)
        axes.set_axis_off()
