"""Figures of the theory bench as PNG bytes: curves with spread, and the alignment picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_cli.report import plots
from distill_cli.report.plots import Curve, Level

Cell = Mapping[str, Any]


def curves(
    cells: Sequence[Cell], x: str, metric: str, group: str, labels: tuple[str, str], title: str,
    flat: Sequence[tuple[str, str]] = (), log_y: bool = True, split: str | None = None,
) -> bytes:  # fmt: skip
    """metric over x, a line per value of `group`, bars of one standard deviation over seeds.

    labels: of both axes; flat: (metric, name) drawn dashed in the colour of the group, for what
    does not depend on x; split: a key whose second value is drawn with an open mark and dotted.
    """
    kinds = sorted({cell[split] for cell in cells}, key=str) if split else [None]
    styles = list(zip(("--", "-."), flat, strict=False))
    drawn: list[Curve] = []
    # In the key, each style once and without a colour; what is drawn has the groups' colours.
    levels = [Level(np.nan, None, style, name) for style, (_, name) in styles]
    for place, value in enumerate(sorted({cell[group] for cell in cells})):
        for second, kind in enumerate(kinds):
            chosen = [
                c for c in cells
                if c[group] == value and metric in c["metrics"]
                and (split is None or c[split] == kind)
            ]  # fmt: skip
            if not chosen:
                continue
            chosen.sort(key=lambda c: c[x])
            found = [c["metrics"][metric] for c in chosen]
            drawn.append(
                Curve(
                    f"{group} = {value:g}" + (f", {kind}" if len(kinds) > 1 else ""),
                    [c[x] for c in chosen], [f["mean"] for f in found], [f["std"] for f in found],
                    colour=place, line=":" if second else "-", hollow=bool(second),
                )
            )  # fmt: skip
            if not second:
                levels += [
                    Level(
                        float(np.mean([c["metrics"][name]["mean"] for c in chosen])), place, style
                    )
                    for style, (name, _) in styles
                ]
    return plots.curves(title, *labels, drawn, levels, log_x=True, log_y=log_y, at_points=True)


def memory(cells: Sequence[Cell], lines: Mapping[str, str], title: str) -> bytes:
    """Error against stored numbers, one line per (metric -> name); x is each cell's own count."""
    drawn = []
    for place, (metric, name) in enumerate(lines.items()):
        points = []
        for cell in cells:
            if metric in cell["metrics"]:
                found = cell["metrics"]
                size = found["floats"]["mean"]
                if metric == "mse_equal_memory_real" and cell["subset"]:
                    size = cell["subset"] * (cell["d"] + 1)
                points.append((size, found[metric]["mean"], found[metric]["std"] or 0.0))
        if points:
            x, y, spread = zip(*sorted(points), strict=True)
            drawn.append(Curve(name, x, y, spread, place))
    return plots.curves(title, "stored numbers", "relative MSE", drawn, log_x=True, log_y=True)


def slope_figure(fits: Sequence[Mapping[str, Any]]) -> bytes:
    """Memory that is needed against d, r or L, on logarithmic axes of equal scale, with the fitted
    slope and, dotted, lines of slope 0, 1 and 2 through the middle of the points."""

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(fits), squeeze=False)[0]
        for index, (panel, fit) in enumerate(zip(axes, fits, strict=True)):
            pairs = [
                (g, v) for g, v in zip(fit["groups"], fit["needed"], strict=True) if v is not None
            ]
            panel.set(xscale="log", yscale="log", xlabel=fit["what"].split()[2].rstrip(","))
            if pairs:
                x, y = (np.array(v, float) for v in zip(*pairs, strict=True))
                panel.plot(x, y, "o-", color=plots.tint(index), lw=1.4)
                middle = np.exp(np.log(x).mean()), np.exp(np.log(y).mean())
                reach = max(x.max() / x.min(), y.max() / y.min(), 4.0)
                panel.set(ylim=(middle[1] / reach, middle[1] * reach))
                for power in (0, 1, 2):
                    line = middle[1] * (x / middle[0]) ** power
                    panel.plot(x, line, color=plots.GREY, ls=":", lw=0.9)
                    panel.annotate(f"{power}", (x[-1], line[-1]), fontsize=7, color=plots.GREY)
                plots.plain_ticks(panel.xaxis, x)
                powers = 2.0 ** np.arange(np.floor(np.log2(y.min())) - 2, np.log2(y.max()) + 3)
                low, high = panel.get_ylim()
                plots.plain_ticks(panel.yaxis, powers[(powers >= low) & (powers <= high)])
            panel.set_ylabel(f"{fit['what'].split()[0]} needed")
            slope, interval = fit["slope"], fit["interval"]
            text = "no slope" if slope is None else f"slope {slope:.2f}"
            if interval:
                text += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
            panel.set_title(f"{fit['what']}\n{text}", fontsize=9.5)

    return plots.picture(draw, (3.6 * len(fits) + 0.6, 3.8))


def alignment(panels: Sequence[tuple[str, np.ndarray, np.ndarray]], title: str) -> bytes:
    """Distilled inputs in the basis of the true subspace.

    panels: (name, coordinates inside (M, r), norms outside (M,)). Above: the first two coordinates
    inside the subspace; below: the norm of each point inside and outside of it.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, len(panels), squeeze=False)
        for column, (name, inside, outside) in enumerate(panels):
            first = inside[:, 0]
            second = inside[:, 1] if inside.shape[1] > 1 else np.zeros_like(first)
            size = max(np.abs(inside).max(), outside.max(), 1e-12)
            top, low = axes[0, column], axes[1, column]
            top.axhline(0, color="#bbbbbb", lw=0.7)
            top.axvline(0, color="#bbbbbb", lw=0.7)
            top.scatter(first / size, second / size, s=22, color=plots.tint(0), alpha=0.8)
            top.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
            top.set(xlabel="<x, theta_1>", ylabel="<x, theta_2>")
            top.set_title(name, fontsize=9.5)
            order = np.arange(len(inside))
            low.bar(order, np.sqrt((inside**2).sum(1)) / size, color=plots.tint(0), label="inside")
            low.bar(order, -outside / size, color=plots.tint(1), label="outside")
            low.axhline(0, color="#333333", lw=0.7)
            low.set(ylim=(-1.5, 1.5), xlabel="distilled point", ylabel="norm")
        axes[1, 0].legend(fontsize=8)
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")

    return plots.picture(draw, (3.1 * len(panels) + 0.4, 5.6))
