"""Plots of the applications as PNG bytes (matplotlib, no display needed)."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

COLOURS = ("#1d5fa8", "#c2410c", "#0f6b3c", "#7a3e9d", "#57606c", "#a8791b")
MARKERS = ("o", "s", "^", "D", "v", "P")


class Curve(NamedTuple):
    """A named curve; spread: half the length of the error bars, None where there is none."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float | None] | None = None
    dashed: bool = False


def curves(
    title: str, across: str, up: str, drawn: Sequence[Curve], level: float | None = None,
    log: bool = False,
) -> bytes:  # fmt: skip
    """Curves with points and error bars; level: a dotted line to compare with; log: of x."""
    figure, axes = _figure()
    for index, curve in enumerate(drawn):
        spread = [s or 0.0 for s in curve.spread] if curve.spread is not None else None
        axes.errorbar(
            curve.x, curve.y, yerr=spread, label=curve.name, capsize=3, linewidth=1.8,
            color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)],
            markersize=5, linestyle="--" if curve.dashed else "-",
        )  # fmt: skip
    if level is not None:
        axes.axhline(level, color="#57606c", linestyle=":", linewidth=1.2)
    if log:
        axes.set_xscale("log")
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    if len(drawn) > 1:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return _png(figure)


def bars(title: str, up: str, names: Sequence[str], values: Sequence[float]) -> bytes:
    """One bar for each name."""
    figure, axes = _figure(width=max(6.4, 0.22 * len(names)))
    axes.bar(range(len(values)), values, color=COLOURS[0])
    step = max(1, len(names) // 40)
    shown = range(0, len(names), step)
    axes.set_xticks(list(shown), [names[i] for i in shown], rotation=60, ha="right", fontsize=8)
    axes.set(title=title, ylabel=up)
    axes.grid(alpha=0.3, axis="y")
    return _png(figure)


def _figure(width: float = 6.4) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib in the file, equal plots are equal bytes.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
