"""Names in any script: drawn by a font that has their characters, or numbered."""

import numpy as np
import pytest
from PIL import Image

from distill_cli.report import fonts, images
from distill_cli.tasks.apply_sheet import Picture, sheet

NOWHERE = "\U000e0101\U0010fffd"  # a private character that no font of this world has


def drawn(text: str) -> np.ndarray:
    font = fonts.font_for(text, 20)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    from PIL import ImageDraw

    ImageDraw.Draw(image).text((2 - left, 2 - top), text, fill=255, font=font)
    return np.asarray(image)


@pytest.mark.parametrize("pair", ["ÄÖ", "éè", "шж", "λπ", "şğ"])
def test_letters_differ_where_boxes_would_be_alike(pair):
    first, second = map(drawn, pair)
    assert first.shape != second.shape or (first != second).any()
    assert not fonts.lacking(fonts.covering(frozenset(pair)), pair)


def test_ascii_keeps_pillows_own_font():
    assert fonts.font_for("ant_bee 3", 14).getname() != fonts.font_for("Ämter", 14).getname()


def test_names_that_no_font_has_become_numbers():
    assert fonts.legible(["Äpfel", NOWHERE, "cat", "a b"]) == ["Äpfel", "1", "cat", "a b"]


def test_fonts_of_last_resort_do_not_count():
    assert fonts.LAST_RESORT not in str(fonts.covering(frozenset(NOWHERE))).lower()


def test_pictures_with_names_of_all_kinds(tmp_path):
    pixels = np.full((4, 8, 8, 3), 90, np.uint8)
    names = ["Müller_Straße", "кошка", NOWHERE, "dog"]

    def grid(names: list[str]) -> np.ndarray:
        title, note = "Größe: 4", "ein Hinweis für später"
        return np.asarray(images.draw_grid(pixels, np.eye(4), names, 1, title, note))

    found = grid(names)
    np.testing.assert_array_equal(found, grid([*names[:2], "2", "dog"]))
    assert (found != grid(["0", *names[1:]])).any()
    assert (found != grid([names[0], "1", *names[2:]])).any()
    line = [Picture(pixels[0], ("Käfer", "λ = 0.5"))]
    assert sheet("Prüfung", [line], note="für später").startswith(b"\x89PNG")
