"""The picture of distill-theory subspace: spectra of image sets, and a network's directions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill_cli.report import plots
from distill_cli.report.heat import diverging

SHOWN = 10  # directions drawn as images


def picture(
    sets: Mapping[str, np.ndarray], directions: np.ndarray, shape: tuple[int, int, int], k: int
) -> bytes:
    """Left: cumulative share of energy over directions of the network (solid) and own ones
    (dotted); right: the leading directions of the network and of the coreset as images."""

    def draw(figure: Any) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
        axes = left.subplots()
        for index, (name, x) in enumerate(sets.items()):
            x = np.asarray(x, np.float64)
            inside = np.cumsum(((x @ directions) ** 2).sum(0)) / (x**2).sum()
            s2 = np.linalg.svd(x, compute_uv=False)[:k] ** 2
            own = np.cumsum(s2) / (x**2).sum()
            colour = plots.tint(index)
            axes.plot(range(1, len(inside) + 1), inside, color=colour, marker="o", ms=3, label=name)
            axes.plot(range(1, len(own) + 1), own, color=colour, ls=":", lw=1.2)
        axes.set(xlabel="directions", ylabel="share of the set's energy", ylim=(0, 1.02))
        axes.set_title("solid: network's directions, dotted: own", fontsize=9)
        axes.legend(fontsize=8)
        count = min(SHOWN, directions.shape[1])
        own = np.linalg.svd(np.asarray(sets["coreset"], np.float64), full_matrices=False)[2]
        rows = [("network", directions.T[:count]), ("coreset", own[:count])]
        grid = right.subplots(2 * 2, (count + 1) // 2, squeeze=False).reshape(2, 2, -1)
        for (name, vectors), block in zip(rows, grid, strict=True):
            panels = block.reshape(-1)
            for panel in panels:
                panel.axis("off")
            for index, vector in enumerate(vectors):
                image = vector.reshape(shape).mean(-1)
                panels[index].imshow(diverging(image, float(np.abs(image).max()) or 1.0))
            panels[0].set_title(f"directions of the {name}", loc="left", fontsize=9)

    return plots.picture(draw, (10.5, 4.2))
