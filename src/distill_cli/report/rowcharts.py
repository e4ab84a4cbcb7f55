"""Charts with one line per variant: accuracies with error bars, and stacked bars.

Plain HTML, so that they reflow on a phone; figures.py draws the same data to files.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from distill_cli.report import words
from distill_cli.report.charts import ticks

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


def dots(chart: DotChart, note: str = "") -> str:
    """The chart as a <figure>; note: HTML below it."""
    low, high = chart.range()
    marks = [value for value in ticks(low, high, 5) if low <= value <= high]
    grid = "".join(f'<i class="rule" style="left:{_at(v, low, high)}"></i>' for v in marks)
    lines = []
    for r in chart.rows:
        parts = [grid]
        if r.std is not None:
            left, right = max(low, r.mean - r.std), min(high, r.mean + r.std)
            width = 100 * (right - left) / (high - low)
            parts.append(
                f'<i class="whisker" style="left:{_at(left, low, high)};width:{width:.2f}%"></i>'
            )
        if r.random is not None:
            parts.append(_mark("ring", r.random, low, high))
        if r.published is not None:
            parts.append(_mark("diamond", r.published, low, high))
        if len(r.values) > 1:
            parts += [_mark("single", value, low, high) for value in r.values]
        parts.append(_mark("dot", r.mean, low, high))
        n = f'<small class="n"> n={len(r.values)}</small>'
        lines.append(
            _line(r.name, r.style, r.runs, f'<div class="plot" aria-hidden="true">'
                  f'{"".join(parts)}</div>', words.percent(r.mean, r.std) + n)
        )  # fmt: skip
    labels = "".join(f'<span style="left:{_at(v, low, high)}">{100 * v:g} %</span>' for v in marks)
    axis = f'<div class="bar axis" aria-hidden="true"><span></span><div>{labels}</div></div>'
    kinds = [("dot", "mean, ± std over seeds"), ("single", "one run")]
    kinds += [("ring", "random real images")] * any(r.random is not None for r in chart.rows)
    kinds += [("diamond", "published")] * any(r.published is not None for r in chart.rows)
    keys = "".join(
        f'<span class="key"><span class="sample"><i class="{kind}"></i></span>{text}</span>'
        for kind, text in kinds
    )
    return _figure(chart.title, keys, "".join(lines) + axis + note)


def bars(chart: BarChart, note: str = "") -> str:
    """The chart as a <figure>; note: HTML below it."""
    longest = max((sum(r.parts) for r in chart.rows), default=0) or 1.0
    first = 0 if len(chart.keys) > 1 else 1  # a single part has the accent's colour
    lines = []
    for r in chart.rows:
        fills = "".join(
            f'<div class="part p{k + first}" title="{escape(chart.keys[k], quote=True)} '
            f'{escape(chart.text(value), quote=True)}" style="width:{100 * value / longest:.2f}%">'
            "</div>"
            for k, value in enumerate(r.parts)
            if value > 0
        )
        track = f'<div class="track stack" aria-hidden="true">{fills}</div>'
        lines.append(_line(r.name, r.style, r.runs, track, escape(r.text)))
    keys = "".join(
        f'<span class="key"><span class="sample box p{k}"></span>{escape(key)}</span>'
        for k, key in enumerate(chart.keys)
    )
    said = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    return _figure(chart.title, keys if len(chart.keys) > 1 else "", "".join(lines) + said + note)


def _at(value: float, low: float, high: float) -> str:
    return f"{100 * (value - low) / (high - low):.2f}%"


def _mark(kind: str, value: float, low: float, high: float) -> str:
    return f'<i class="{kind}" style="left:{_at(value, low, high)}"></i>'


def _line(name: str, style: str, runs: Sequence[int], track: str, text: str) -> str:
    numbers = " ".join(map(str, runs))
    return (
        f'<div class="bar {style}" data-runs="{numbers}"><span class="who">'
        f'<i class="chip"></i>{escape(name)}</span>{track}<span class="val">{text}</span></div>'
    )


def _figure(title: str, keys: str, inner: str) -> str:
    return (
        f'<figure class="chart rows"><figcaption><b>{escape(title)}</b>'
        f'<span class="keys">{keys}</span></figcaption>{inner}</figure>'
    )
