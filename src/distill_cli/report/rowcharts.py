"""Charts with one line per variant: accuracies with error bars, and stacked bars.

Plain HTML, so that they reflow on a phone; figures.py draws the same data to files.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from distill_cli.report import words
from distill_cli.report.charts import ticks
from distill_cli.report.templating import Markup, macro

MARGIN = 0.08  # of the range, beyond the outermost mark


class Dot(NamedTuple):
    """A variant: its runs' accuracies in [0, 1], mean and std of them, and what to compare with."""

    name: str
    style: str
    runs: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    std: float | None
    random: float | None
    published: float | None


class DotChart(NamedTuple):
    """Accuracy of variants on one cell."""

    title: str
    rows: Sequence[Dot]

    def range(self) -> tuple[float, float]:
        """Ends of the axis: all marks with a margin, inside [0, 1]."""
        marks = [
            mark
            for r in self.rows
            for mark in (*r.values, r.mean - (r.std or 0), r.mean + (r.std or 0), r.random,
                         r.published)
            if mark is not None
        ]  # fmt: skip
        low, high = min(marks), max(marks)
        margin = max(MARGIN * (high - low), 0.01)
        return max(0.0, low - margin), min(1.0, high + margin)


class Bar(NamedTuple):
    """A variant: one number for each part of its bar, and the total in words."""

    name: str
    style: str
    runs: tuple[int, ...]
    parts: tuple[float, ...]
    text: str


class BarChart(NamedTuple):
    """Stacked bars from 0. keys: names of the parts; text: a number in words."""

    title: str
    keys: tuple[str, ...]
    rows: Sequence[Bar]
    text: Callable[[float], str]
    note: str = ""


def dots(chart: DotChart, note: str = "") -> Markup:
    """The chart as a <figure>; note: HTML below it."""
    low, high = chart.range()

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    rows = []
    for r in chart.rows:
        whisker = None
        if r.std is not None:
            left, right = max(low, r.mean - r.std), min(high, r.mean + r.std)
            whisker = at(left), f"{100 * (right - left) / (high - low):.2f}%"
        marks = [("ring", r.random), ("diamond", r.published)]
        if len(r.values) > 1:
            marks += [("single", value) for value in r.values]
        marks.append(("dot", r.mean))
        rows.append(
            {
                "name": r.name, "style": r.style, "runs": r.runs, "n": len(r.values),
                "text": words.percent(r.mean, r.std), "whisker": whisker,
                "marks": [(kind, at(value)) for kind, value in marks if value is not None],
            }
        )  # fmt: skip
    ticks_ = [value for value in ticks(low, high, 5) if low <= value <= high]
    kinds = [("dot", "mean, ± std over seeds"), ("single", "one run")]
    if any(r.random is not None for r in chart.rows):
        kinds.append(("ring", "random real images"))
    if any(r.published is not None for r in chart.rows):
        kinds.append(("diamond", "published"))
    labels = [(at(value), f"{100 * value:g} %") for value in ticks_]
    return macro("rows.html", "dots")(chart.title, rows, labels, kinds, note)


def bars(chart: BarChart, note: str = "") -> Markup:
    """The chart as a <figure>; note: HTML below it."""
    longest = max((sum(r.parts) for r in chart.rows), default=0) or 1.0
    first = 0 if len(chart.keys) > 1 else 1  # a single part has the accent's colour
    rows = [
        {
            "name": r.name, "style": r.style, "runs": r.runs, "text": r.text,
            "parts": [
                {
                    "colour": k + first, "title": f"{chart.keys[k]} {chart.text(value)}",
                    "width": f"{100 * value / longest:.2f}%",
                }
                for k, value in enumerate(r.parts)
                if value > 0
            ],
        }
        for r in chart.rows
    ]  # fmt: skip
    return macro("rows.html", "bars")(chart.title, rows, chart.keys, chart.note, note)
