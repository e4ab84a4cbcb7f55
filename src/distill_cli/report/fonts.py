"""Fonts that have the characters of a picture's texts: class names are in any language."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

LAST_RESORT = "lastresort"  # fonts that have every character, as a box with a sample of its script


@cache
def font_for(text: str, size: int) -> Any:
    """A Pillow font that can draw `text`: Pillow's own for ASCII, else the first of DejaVu Sans (it
    comes with matplotlib) and the system's fonts that has every character, or lacks fewest."""
    from PIL import ImageFont

    characters = frozenset(text) - {" ", "…"}
    if "".join(characters).isascii():
        return ImageFont.load_default(size=size)
    return ImageFont.truetype(str(covering(characters)), size)


def legible(names: Sequence[str]) -> list[str]:
    """Class names, with the number of the class in place of a name that no font can draw."""
    return [
        name if name.isascii() or not lacking(covering(frozenset(name)), name) else str(at)
        for at, name in enumerate(names)
    ]


@cache
def covering(characters: frozenset[str]) -> Path:
    """The file of a font that lacks fewest of these characters; DejaVu Sans where it has as many as
    any other."""
    from matplotlib import font_manager, get_data_path

    own = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    if not (fewest := lacking(own, characters)):
        return own
    best = own
    for path in sorted({Path(entry.fname) for entry in font_manager.fontManager.ttflist}):
        if LAST_RESORT in path.name.lower():
            continue
        if (count := lacking(path, characters)) < fewest:
            best, fewest = path, count
        if not fewest:
            break
    return best


def lacking(path: Path, characters: Iterable[str]) -> int:
    """How many of these characters a font file lacks; all where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    wanted = {ord(character) for character in characters if not character.isspace()}
    try:
        return len(wanted - FT2Font(str(path)).get_charmap().keys())
    except (OSError, RuntimeError):
        return len(wanted)
