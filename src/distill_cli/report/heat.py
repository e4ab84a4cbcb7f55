"""Pictures of numbers: signed values as colours, the label matrix as a heat map, PNGs inline."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from distill_cli.report.images import png_bytes


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """Values in [-limit, limit] as colours (..., 3) uint8: blue, white, red (ColorBrewer RdBu)."""
    stops = np.array(
        [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]]
    )
    place = np.clip(np.nan_to_num(values) / limit, -1, 1)
    mixed = [np.interp(place, [-1, -0.5, 0, 0.5, 1], stops[:, k]) for k in range(3)]
    return np.rint(np.stack(mixed, axis=-1)).astype(np.uint8)


def label_map(labels: np.ndarray, names: Sequence[str]) -> str:
    """The label matrix as a heat map: one column per coreset image, one row per class."""
    n, classes = labels.shape
    limit = float(np.nanmax(np.abs(labels))) or 1.0
    cells = data_uri(png_bytes(diverging(labels.T, limit)))
    shown = range(classes) if classes <= 20 else range(0, classes, 10)
    left = 8 + 6.9 * max(len(names[c]) for c in shown)
    wide, row = 640.0, 20.0 if classes <= 20 else max(2.5, 360 / classes)
    high, plot = row * classes, wide - left
    parts = [
        f'<text x="{left - 7:.0f}" y="{row * (c + 0.5) + 4.5:.1f}" text-anchor="end">'
        f"{escape(names[c].replace('_', ' '))}</text>"
        for c in shown
    ]
    parts.append(
        f'<image href="{cells}" x="{left:.0f}" y="0" width="{plot:.0f}" height="{high:.0f}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )
    bar = data_uri(png_bytes(diverging(np.linspace(-1, 1, 101)[None], 1.0)))
    y = high + 34
    parts.append(
        f'<text x="{left:.0f}" y="{high + 20:.0f}">{n} coreset images, class by class</text>'
    )
    parts.append(
        f'<image href="{bar}" x="{wide - 200:.0f}" y="{high + 8:.0f}" width="200" height="12" '
        'preserveAspectRatio="none"/>'
    )
    for place, value in ((0, -limit), (100, 0.0), (200, limit)):
        anchor = {0: "start", 100: "middle", 200: "end"}[place]
        parts.append(
            f'<text x="{wide - 200 + place:.0f}" y="{y:.0f}" text-anchor="{anchor}">'
            f"{value:.2g}</text>"
        )
    return (
        f'<div class="heat" tabindex="0">'
        f'<svg class="heat" viewBox="0 0 {wide:.0f} {high + 40:.0f}" '
        'role="img" aria-label="Heat map of the '
        f"learned labels, {n} images by {classes} classes, values from {labels.min():.3g} to "
        f'{labels.max():.3g}">{"".join(parts)}</svg></div>'
    )


def data_uri(png: bytes) -> str:
    """A PNG as a data: address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
