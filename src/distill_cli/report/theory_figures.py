"""Figures of the theory bench as PNG bytes: curves with spread, and the alignment picture."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Cell = Mapping[str, Any]
COLOURS = ("#1d5fa8", "#c2410c", "#0f6b3c", "#a8791b", "#6b3fa0", "#57606c", "#b8327a")
MARKS = "osD^vP*"


def png(draw: Callable[[Any], None], size: tuple[float, float] = (7.0, 4.4)) -> bytes:
    """Run `draw` on a fresh figure; the bytes depend on the data alone (no date in the file)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=130, layout="constrained")
    draw(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def curves(
    cells: Sequence[Cell], x: str, metric: str, group: str, labels: tuple[str, str], title: str,
    flat: Sequence[tuple[str, str]] = (), log_y: bool = True, split: str | None = None,
) -> bytes:  # fmt: skip
    """metric over x, a line per value of `group`, bars of one standard deviation over seeds.

    labels: of both axes; flat: (metric, name) drawn dashed in the colour of the group, for what
    does not depend on x; split: a key whose second value is drawn with an open mark and dotted.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        kinds = sorted({cell[split] for cell in cells}, key=str) if split else [None]
        groups = sorted({cell[group] for cell in cells})
        for index, value in enumerate(groups):
            colour, mark = COLOURS[index % len(COLOURS)], MARKS[index % len(MARKS)]
            for kind_index, kind in enumerate(kinds):
                chosen = [
                    c for c in cells
                    if c[group] == value and metric in c["metrics"]
                    and (split is None or c[split] == kind)
                ]  # fmt: skip
                if not chosen:
                    continue
                chosen.sort(key=lambda c: c[x])
                name = f"{group} = {value:g}" + (f", {kind}" if len(kinds) > 1 else "")
                found = [c["metrics"][metric] for c in chosen]
                axes.errorbar(
                    [c[x] for c in chosen], [f["mean"] for f in found],
                    [f["std"] or 0.0 for f in found], label=name, color=colour, marker=mark,
                    markersize=5, capsize=2, lw=1.4, ls=":" if kind_index else "-",
                    markerfacecolor="white" if kind_index else colour,
                )  # fmt: skip
                if kind_index == 0:
                    for style, (key, _) in zip(("--", "-."), flat, strict=False):
                        level = np.mean([c["metrics"][key]["mean"] for c in chosen])
                        axes.axhline(level, color=colour, ls=style, lw=0.9, alpha=0.7)
        for style, (_, text) in zip(("--", "-."), flat, strict=False):
            axes.plot([], [], color="#57606c", ls=style, lw=0.9, label=text)
        axes.set_xscale("log", base=2 if x.startswith("m") else 10)
        plain_ticks(axes.xaxis, sorted({round(c[x], 3) for c in cells}))
        if log_y:
            axes.set_yscale("log")
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_title(title, loc="left", fontsize=10.5)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7.5, ncols=2 if len(groups) * len(kinds) > 5 else 1)

    return png(draw)


def memory(cells: Sequence[Cell], lines: Mapping[str, str], title: str) -> bytes:
    """Error against stored numbers, one line per (metric -> name); x is each cell's own count."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for index, (metric, name) in enumerate(lines.items()):
            points = []
            for cell in cells:
                if metric in cell["metrics"]:
                    found = cell["metrics"]
                    size = found["floats"]["mean"]
                    if metric == "mse_equal_memory_real" and cell["subset"]:
                        size = cell["subset"] * (cell["d"] + 1)
                    points.append((size, found[metric]["mean"], found[metric]["std"] or 0.0))
            if points:
                x, y, bar = zip(*sorted(points), strict=True)
                axes.errorbar(
                    x, y, bar, label=name, color=COLOURS[index], marker=MARKS[index], lw=1.4,
                    markersize=5, capsize=2,
                )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="stored numbers", ylabel="relative MSE")
        axes.set_title(title, loc="left", fontsize=10.5)
        axes.grid(alpha=0.25, which="both")
        axes.legend(fontsize=8)

    return png(draw)


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
                panel.plot(x, y, "o-", color=COLOURS[index], lw=1.4)
                middle = np.exp(np.log(x).mean()), np.exp(np.log(y).mean())
                reach = max(x.max() / x.min(), y.max() / y.min(), 4.0)
                panel.set(ylim=(middle[1] / reach, middle[1] * reach))
                for power in (0, 1, 2):
                    line = middle[1] * (x / middle[0]) ** power
                    panel.plot(x, line, color="#57606c", ls=":", lw=0.9)
                    panel.annotate(f"{power}", (x[-1], line[-1]), fontsize=7, color="#57606c")
                plain_ticks(panel.xaxis, x)
                powers = 2.0 ** np.arange(np.floor(np.log2(y.min())) - 2, np.log2(y.max()) + 3)
                low, high = panel.get_ylim()
                plain_ticks(panel.yaxis, powers[(powers >= low) & (powers <= high)])
            panel.set_ylabel(f"{fit['what'].split()[0]} needed")
            panel.grid(alpha=0.25)
            slope, interval = fit["slope"], fit["interval"]
            text = "no slope" if slope is None else f"slope {slope:.2f}"
            if interval:
                text += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
            panel.set_title(f"{fit['what']}\n{text}", loc="left", fontsize=9.5)

    return png(draw, (3.6 * len(fits) + 0.6, 3.8))


def plain_ticks(axis: Any, values: Sequence[float] | np.ndarray) -> None:
    """Ticks at these values alone, written as plain numbers."""
    kept: list[float] = []
    for value in map(float, values):  # labels that would overlap are left out
        if not kept or abs(value) >= 1.2 * abs(kept[-1]):
            kept.append(value)
    axis.set_ticks(kept, labels=[f"{v:g}" for v in kept])
    axis.set_ticks([], minor=True)


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
            top.scatter(first / size, second / size, s=22, color=COLOURS[0], alpha=0.8)
            top.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
            top.set(xlabel="<x, theta_1>", ylabel="<x, theta_2>")
            top.set_title(name, fontsize=9.5)
            order = np.arange(len(inside))
            low.bar(order, np.sqrt((inside**2).sum(1)) / size, color=COLOURS[0], label="inside")
            low.bar(order, -outside / size, color=COLOURS[1], label="outside")
            low.axhline(0, color="#333333", lw=0.7)
            low.set(ylim=(-1.5, 1.5), xlabel="distilled point", ylabel="norm")
        axes[1, 0].legend(fontsize=8)
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")

    return png(draw, (3.1 * len(panels) + 0.4, 5.6))
