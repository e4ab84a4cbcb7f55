"""Pictures of a coreset: back to pixels, clipped, enlarged without smoothing, named by class."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill_cli.data.standalone_load import HALF_LEVEL, to_pixels
from distill_cli.report.fonts import font_for, legible
from distill_cli.report.results import write_bytes

GAP = 1  # pixels between images of one class
SPACE = 14  # pixels between classes
MARGIN = 24
_INK, _FAINT, _LINE, _PAPER = (24, 28, 33), (91, 100, 112), (214, 219, 226), (255, 255, 255)


class View(NamedTuple):
    """Images to look at: uint8 (n, h, w, 1 or 3), and the fraction of values that were clipped.

    rescaled says that each image fills the range by itself, because the transform's per-image step
    keeps neither brightness nor contrast.
    """

    pixels: np.ndarray
    clipped: float
    rescaled: bool

    def note(self) -> str:
        """One sentence on what the picture does not show."""
        if self.rescaled:
            return "Each image is rescaled: the preprocessing keeps no brightness or contrast."
        if self.clipped == 0:
            return "Back in pixel space; every value lies in [0, 1]."
        share = f"{100 * self.clipped:.1f}" if self.clipped >= 0.0005 else "less than 0.1"
        return f"Back in pixel space; {share} % of the values lie outside [0, 1] and are clipped."


def view(images: np.ndarray, transform: Mapping[str, Any]) -> View:
    """The inverse transform of preprocessed images (n, h, w, c), clipped to what can be shown."""
    pixels = to_pixels(images, dict(transform))
    outside = (pixels < -HALF_LEVEL) | (pixels > 1 + HALF_LEVEL)
    return View(to_levels(pixels), float(outside.mean()), bool(transform.get("per_image", False)))


def to_levels(pixels: np.ndarray) -> np.ndarray:
    """Pixels (n, h, w, c), clipped to [0, 1], as uint8 (n, h, w, 1 or 3)."""
    finite = np.nan_to_num(pixels, nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.rint(255 * np.clip(finite, 0, 1)).astype(np.uint8)
    if levels.shape[-1] not in (1, 3):  # show the mean of channels that are no colours
        levels = np.rint(levels.mean(axis=-1, keepdims=True)).astype(np.uint8)
    return levels


def by_class(labels: np.ndarray, ipc: int | None = None) -> list[np.ndarray]:
    """Indices of the images of each class.

    Coresets are class-major, so position decides where n = ipc * classes: a learned label may have
    drifted to another class, the image still belongs to the one that it started from. Else argmax.
    """
    n, classes = labels.shape
    if ipc and n == ipc * classes:
        return list(np.arange(n).reshape(classes, ipc))
    hard = labels.argmax(axis=1)
    return [np.flatnonzero(hard == c) for c in range(classes)]


def mosaic(tiles: np.ndarray, columns: int, scale: int = 1, gap: int = GAP) -> np.ndarray:
    """Images (k, h, w, c) uint8 in rows of `columns`, each enlarged; RGBA, gaps transparent."""
    k, h, w, _ = tiles.shape
    rows = max(1, math.ceil(k / columns))
    h, w = h * scale, w * scale
    out = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        big = tile.repeat(scale, axis=0).repeat(scale, axis=1)
        out[top : top + h, left : left + w, :3] = big
        out[top : top + h, left : left + w, 3] = 255
    return out


class Layout(NamedTuple):
    """Where things stand in a grid: class blocks in `panels` columns, each of `columns` images."""

    scale: int
    columns: int  # images side by side in a class
    rows: int  # rows of images in a class
    panels: int  # classes side by side
    beside: bool  # class name to the left of its images, else below

    @staticmethod
    def choose(classes: int, largest: int, h: int, w: int) -> "Layout":
        """A legible layout of `classes` with up to `largest` images each, of h by w pixels."""
        n = classes * largest
        target = 96 if n <= 20 else 64 if n <= 600 else 32
        scale = max(1, round(target / max(h, w)))
        if largest == 1:
            panels = min(classes, 5 if classes <= 10 else 10 if classes <= 100 else 20)
            return Layout(scale, 1, 1, panels, beside=False)
        columns = largest if largest <= 12 else math.ceil(largest / math.ceil(largest / 25))
        rows = math.ceil(largest / columns)
        width, height = columns * w * scale + 110, rows * h * scale + SPACE
        panels = 1
        while math.ceil(classes / panels) * height > 1.1 * panels * width:
            panels += 1
        return Layout(scale, columns, rows, min(panels, classes), beside=True)


def draw_grid(
    pixels: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    ipc: int | None = None,
    title: str = "",
    note: str = "",
) -> Any:
    """A PIL image of all images by class with names, a title above and a note below.

    pixels: (n, h, w, 1 or 3), uint8, or floats that are clipped to [0, 1]. labels: (n, classes).
    """
    from PIL import Image, ImageDraw

    if pixels.dtype != np.uint8:
        pixels = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    groups = by_class(labels, ipc)
    h, w = pixels.shape[1:3]
    plan = Layout.choose(len(groups), max(1, *(len(g) for g in groups)), h, w)
    names = legible([str(name).replace("_", " ") for name in class_names])
    block_w = plan.columns * (w * plan.scale + GAP) - GAP
    block_h = plan.rows * (h * plan.scale + GAP) - GAP
    large, small = font_for(title, 21), font_for(note, 14)
    for points in (15, 14, 13, 12, 11):  # the largest size that fits every name under its image
        widest = max(font_for(name, points).getlength(name) for name in names)
        if plan.beside or widest <= block_w + SPACE - 4:
            break
    label_w = math.ceil(widest) + 12 if plan.beside else 0
    label_h = 0 if plan.beside else 24
    step_x = label_w + block_w + (2 * SPACE if plan.beside else SPACE)
    step_y = block_h + label_h + (SPACE if plan.rows > 1 or not plan.beside else 6)
    lines = math.ceil(len(groups) / plan.panels)
    head = 40 if title else 0
    texts = [(title, large), (note, small)]
    inner = max(plan.panels * step_x - SPACE, *(math.ceil(f.getlength(t)) for t, f in texts))
    foot = 30 if note else 0
    size = (inner + 2 * MARGIN, head + lines * step_y + foot + 2 * MARGIN - SPACE)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN - 6), title, fill=_INK, font=large)
    for c, group in enumerate(groups):
        # Names in a list read down, tiles read across.
        column, line = (
            (c // lines, c % lines) if plan.beside else (c % plan.panels, c // plan.panels)
        )
        x, y = MARGIN + column * step_x, MARGIN + head + line * step_y
        tiles = Image.fromarray(mosaic(pixels[group], plan.columns, plan.scale), "RGBA")
        left, right, bottom = x + label_w, x + label_w + tiles.width, y + tiles.height
        draw.rectangle((left - 1, y - 1, right, bottom), fill=_LINE)  # hairlines keep white apart
        image.paste(tiles, (left, y), tiles)
        if plan.beside:
            spot, anchor = (x + label_w - 12, y + block_h // 2), "rm"
        else:
            spot, anchor = (x + block_w // 2, y + block_h + 5), "ma"
        font = font_for(names[c], points)
        name = _fit(names[c], font, label_w or block_w + SPACE - 4)
        draw.text(spot, name, fill=_INK, font=font, anchor=anchor)
    draw.text((MARGIN, size[1] - MARGIN - 9), note, fill=_FAINT, font=small)
    return image


def write_grid(
    path: str | Path,
    pixels: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    ipc: int | None = None,
    title: str = "",
    note: str = "",
) -> Path:
    """draw_grid as a PNG file, written atomically."""
    image = draw_grid(pixels, labels, class_names, ipc, title, note)
    return write_bytes(path, png_bytes(image))


def png_bytes(image: Any) -> bytes:
    """A PNG of a PIL image, or of a uint8 array (h, w) or (h, w, 1, 3 or 4)."""
    from PIL import Image

    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    buffer = io.BytesIO()
    small = image.width * image.height < 400_000  # optimising a large picture takes seconds
    image.save(buffer, format="PNG", optimize=small)
    return buffer.getvalue()


def _fit(text: str, font: Any, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
