"""Sheets of pictures in lines, each with a caption: strips and panels of the applications."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from distill_cli.report.fonts import font_for
from distill_cli.report.images import png_bytes

MARGIN, GAP, LINE, HEAD = 20, 10, 16, 34
_INK, _FAINT, _EDGE = (24, 28, 33), (91, 100, 112), (176, 184, 194)
_GOOD, _BAD = (15, 107, 60), (178, 24, 43)


class Picture(NamedTuple):
    """pixels: (h, w, 1 or 3) uint8; caption: lines of text below; tone: ink, good or bad, of the
    caption; space: extra room before it; size: of the drawn picture, relative."""

    pixels: np.ndarray
    caption: tuple[str, ...] = ()
    tone: str = "ink"
    space: int = 0
    size: float = 1.0


def to_levels(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as uint8, clipped; channels that are no colours become their mean."""
    levels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    if levels.shape[-1] not in (1, 3):
        levels = np.rint(levels.mean(-1, keepdims=True)).astype(np.uint8)
    return levels


def sheet(title: str, lines: Sequence[Sequence[Picture]], side: int = 76, note: str = "") -> bytes:
    """The PNG of all lines, pictures of about `side` pixels, in columns."""
    from PIL import Image, ImageDraw

    large = font_for(title, 19)

    def width_of(picture: Picture) -> int:
        texts = [font_for(text, 12).getlength(text) for text in picture.caption]
        return int(max(side * picture.size, *texts, 0) if texts else side * picture.size) + GAP

    columns = range(max(len(line) for line in lines))
    widths = [max(width_of(line[k]) for line in lines if k < len(line)) for k in columns]
    captions = max((len(p.caption) for line in lines for p in line), default=0)
    step = side + captions * LINE + GAP
    widest = max(sum(widths[k] + p.space for k, p in enumerate(line)) for line in lines)
    widest = max(widest, int(large.getlength(title)), int(font_for(note, 12).getlength(note)))
    size = (widest + 2 * MARGIN, HEAD + len(lines) * step + 2 * MARGIN + (LINE if note else 0))
    image = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN - 6), title, fill=_INK, font=large)
    tones = {"ink": _INK, "good": _GOOD, "bad": _BAD}
    for index, line in enumerate(lines):
        x, y = MARGIN, MARGIN + HEAD + index * step
        for k, picture in enumerate(line):
            x += picture.space
            drawn = _tile(Image, picture, side)
            top = y + side - drawn.height
            draw.rectangle((x - 1, top - 1, x + drawn.width, top + drawn.height), fill=_EDGE)
            image.paste(drawn, (x, top))
            for place, text in enumerate(picture.caption):
                fill = tones[picture.tone] if place == 0 else _FAINT
                spot = x, y + side + 2 + place * LINE
                draw.text(spot, text, fill=fill, font=font_for(text, 12))
            x += widths[k]
    if note:
        draw.text((MARGIN, size[1] - MARGIN - 4), note, fill=_FAINT, font=font_for(note, 12))
    return png_bytes(image)


def _tile(image_module: Any, picture: Picture, side: int) -> Any:
    """The picture enlarged without smoothing (or made smaller) to its drawn size."""
    pixels = picture.pixels
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    wanted = max(1, int(side * picture.size))
    height, width = pixels.shape[:2]
    scale = wanted / max(height, width)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image_module.fromarray(pixels).resize(new, image_module.Resampling.NEAREST)
