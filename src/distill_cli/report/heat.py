"""Pictures of numbers: signed values as colours, the label matrix as a heat map, PNGs inline."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill_cli.report.images import png_bytes
from distill_cli.report.templating import Markup, macro


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """Values in [-limit, limit] as colours (..., 3) uint8: blue, white, red (ColorBrewer RdBu)."""
    stops = np.array(
        [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]]
    )
    place = np.clip(np.nan_to_num(values) / limit, -1, 1)
    mixed = [np.interp(place, [-1, -0.5, 0, 0.5, 1], stops[:, k]) for k in range(3)]
    return np.rint(np.stack(mixed, axis=-1)).astype(np.uint8)


def label_map(labels: np.ndarray, names: Sequence[str]) -> Markup:
    """The label matrix as a heat map: one column per coreset image, one row per class."""
    n, classes = labels.shape
    limit = float(np.nanmax(np.abs(labels))) or 1.0
    shown = range(classes) if classes <= 20 else range(0, classes, 10)
    left = 8 + 6.9 * max(len(names[c]) for c in shown)
    wide, row = 640.0, 20.0 if classes <= 20 else max(2.5, 360 / classes)
    high = row * classes
    scale = np.linspace(-1, 1, 101)[None]
    marks = ((0, "start", -limit), (100, "middle", 0.0), (200, "end", limit))
    return macro("heat.html", "labels")(
        {
            "width": f"{wide:.0f}", "height": f"{high + 40:.0f}", "names_x": f"{left - 7:.0f}",
            "spoken": f"Heat map of the learned labels, {n} images by {classes} classes, values "
            f"from {labels.min():.3g} to {labels.max():.3g}",
            "rows": [(row * (c + 0.5) + 4.5, names[c].replace("_", " ")) for c in shown],
            "cells": data_uri(png_bytes(diverging(labels.T, limit))),
            "cells_box": Box(f"{left:.0f}", "0", f"{wide - left:.0f}", f"{high:.0f}", True),
            "explained": f"{n} coreset images, class by class",
            "explained_y": f"{high + 20:.0f}",
            "scale": data_uri(png_bytes(diverging(scale, 1.0))),
            "scale_box": Box(f"{wide - 200:.0f}", f"{high + 8:.0f}", "200", "12", False),
            "scale_y": f"{high + 34:.0f}",
            "scale_marks": [(f"{wide - 200 + x:.0f}", side, f"{v:.2g}") for x, side, v in marks],
        }
    )  # fmt: skip


class Box(NamedTuple):
    """Where a picture is stretched to; pixelated: without smoothing."""

    x: str
    y: str
    width: str
    height: str
    pixelated: bool


def data_uri(png: bytes) -> str:
    """A PNG as a data: address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
