"""The palette: colours stay apart, also for colour-blind readers, and stand out of the page."""

from itertools import combinations

import numpy as np
import pytest

from distill_cli.report.palette import COLOURS

PAGES = ("#fbfcfd", "#181d24")  # light and dark, report.css
# What is left of linear RGB without the second or the first kind of cone: Machado, Oliveira,
# Fernandes, IEEE TVCG 2009, severity 1.
SIGHTS = (
    np.eye(3),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
              [-0.011820, 0.042940, 0.968881]]),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
              [-0.003882, -0.048116, 1.051998]]),
)  # fmt: skip


def linear(colour: str) -> np.ndarray:
    """#rrggbb as linear RGB in [0, 1] (sRGB's transfer function)."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB under D65 of linear RGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of luminances."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (one, other))
    return high / low


def test_the_measures_know_black_and_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert lab(linear("#ffffff")) == pytest.approx([100, 0, 0], abs=0.02)


@pytest.mark.parametrize("page", [0, 1], ids=("light", "dark"))
def test_any_two_colours_stay_apart_for_every_sight(page):
    colours = [pair[page] for pair in COLOURS]
    for one, other in combinations(colours, 2):
        for sight in SIGHTS:
            apart = lab(sight @ linear(one)) - lab(sight @ linear(other))
            assert np.linalg.norm(apart) >= 15, (one, other)


@pytest.mark.parametrize("page", [0, 1], ids=("light", "dark"))
def test_every_colour_stands_out_of_its_page(page):
    for pair in COLOURS:
        assert contrast(pair[page], PAGES[page]) >= 3, pair
