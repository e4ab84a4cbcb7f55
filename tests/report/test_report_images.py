"""Grids: right images at right places, enlarged without smoothing, honest about clipping."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.report import images
from distill_cli.report.coreset_files import read_coreset
from distill_cli.report.images import GAP, MARGIN, Layout, by_class, mosaic, png_bytes, view

NAMES = ("ant", "bee", "wasp")


def boxes(picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """For each colour (n, 3): pixels of exactly it, then top, bottom, left, right of them."""
    picture, colours = (v.astype(np.int64) @ [65536, 256, 1] for v in (picture, colours))
    y, x = np.nonzero(np.isin(picture, colours))
    which = np.argsort(colours)[np.searchsorted(np.sort(colours), picture[y, x])]
    out = np.zeros((len(colours), 5), int)
    for i in range(len(colours)):
        ys, xs = y[which == i], x[which == i]
        out[i] = len(ys), ys.min(), ys.max(), xs.min(), xs.max()
    return out


@pytest.mark.parametrize(
    ("classes", "ipc"), [(3, 1), (3, 4), (10, 1), (10, 10), (10, 50), (100, 1)]
)
def test_every_image_is_there_whole_and_in_order(tmp_path: Path, classes: int, ipc: int) -> None:
    n, size = classes * ipc, 8
    index = np.arange(n)  # saturated colours that occur nowhere else in a grid
    flat = np.stack([2 + index % 251, np.full(n, 3), 90 + index // 251], axis=1)
    pixels = np.broadcast_to(flat[:, None, None], (n, size, size, 3)).astype(np.uint8)
    labels = np.eye(classes)[np.repeat(np.arange(classes), ipc)]
    names = [f"class {c}" for c in range(classes)]
    path = images.write_grid(tmp_path / "grid.png", pixels, labels, names, ipc, "title", "note")
    picture = np.asarray(Image.open(path))
    assert picture.shape[2] == 3
    assert max(picture.shape) <= 2000
    scale = Layout.choose(classes, ipc, size, size).scale
    assert scale >= 4
    seen = boxes(picture, pixels[:, 0, 0])
    assert (seen[:, 0] == (size * scale) ** 2).all()  # none covered, none twice
    assert (seen[:, 2] - seen[:, 1] + 1 == size * scale).all()
    assert (seen[:, 4] - seen[:, 3] + 1 == size * scale).all()
    place = seen[:, [1, 3]].reshape(classes, ipc, 2)
    for row in place:  # an image stands right of the one before, or on a lower line
        for (y0, x0), (y1, x1) in pairwise(row):
            assert y1 > y0 or (y1 == y0 and x1 == x0 + size * scale + GAP)


def test_known_places_of_a_small_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    path = images.write_grid(tmp_path / "g.png", pixels, np.eye(3), NAMES, 1)
    picture = np.asarray(Image.open(path).convert("RGB"))
    for i in range(3):  # three tiles of 96 pixels in a row, 14 apart
        left = MARGIN + i * (96 + 14)
        tile = picture[MARGIN : MARGIN + 96, left : left + 96]
        want = np.kron(pixels[i, :, :, 0], np.ones((12, 12), np.uint8))
        np.testing.assert_array_equal(tile, np.repeat(want[..., None], 3, axis=-1))
    assert picture.shape == (MARGIN + 96 + 24 + MARGIN, 2 * MARGIN + 3 * 96 + 2 * 14, 3)
    assert (picture[:4] == 255).all()
    assert (picture[:, :4] == 255).all()


def test_floats_are_clipped_and_rounded(tmp_path: Path) -> None:
    pixels = np.full((1, 8, 8, 3), 0.5, np.float32)
    pixels[..., 0], pixels[..., 1] = -3.0, 7.0
    path = images.write_grid(tmp_path / "g.png", pixels, np.ones((1, 1)), ("x",), 1)
    assert np.asarray(Image.open(path))[MARGIN, MARGIN].tolist() == [0, 255, 128]


def test_view_inverts_the_transform_and_counts_what_it_clips(any_run: tuple[str, Path]) -> None:
    kind, run = any_run
    files = read_coreset(run)
    assert files is not None
    assert files.initial is not None
    assert files.distilled.pixels.dtype == np.uint8
    if kind == "per_image":
        assert files.distilled.rescaled
        assert files.distilled.clipped == 0
        assert "rescaled" in files.distilled.note()
    else:
        p, x = files.transform, files.coreset.images.astype(np.float64)
        if "zca_vectors" in p:  # x W^-1 by solving with W
            u = p["zca_vectors"].astype(np.float64)
            w = u @ np.diag(p["zca_values"] ** -0.5) @ u.T
            x = np.linalg.solve(w.T, x.reshape(len(x), -1).T).T.reshape(x.shape)
        pixels = x * p["std"] + p["mean"]
        outside = ((pixels < -0.5 / 255) | (pixels > 1 + 0.5 / 255)).mean()
        assert 0 < outside < 1
        assert files.distilled.clipped == pytest.approx(outside, abs=1e-9)
        want = 255 * np.clip(pixels, 0, 1)
        assert np.abs(files.distilled.pixels - want).max() <= 0.51
        assert f"{100 * outside:.1f} %" in files.distilled.note()


def test_rounding_is_not_called_clipping() -> None:
    seen = view(np.array([[[[-1e-4], [1.0001]]]], np.float32), {})
    assert seen.clipped == 0
    assert "every value lies in" in seen.note()


def test_not_a_number_is_shown_as_black() -> None:
    assert view(np.full((1, 2, 2, 3), np.nan, np.float32), {}).pixels.max() == 0


def test_groups_follow_position_then_the_largest_label() -> None:
    drifted = np.eye(3)[[0, 2, 1, 1, 2, 2]]
    assert [g.tolist() for g in by_class(drifted, 2)] == [[0, 1], [2, 3], [4, 5]]
    assert [g.tolist() for g in by_class(drifted)] == [[0], [2, 3], [1, 4, 5]]
    assert [g.tolist() for g in by_class(drifted, 7)] == [[0], [2, 3], [1, 4, 5]]


def test_a_class_without_images_leaves_a_grid() -> None:
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    grid = images.draw_grid(pixels, np.eye(3)[[0, 2]], NAMES, 1)
    assert grid.size[0] > 0


def test_mosaic_and_png_keep_every_value() -> None:
    tiles = np.random.default_rng(1).integers(0, 256, (3, 2, 2, 3)).astype(np.uint8)
    out = mosaic(tiles, columns=2, scale=2, gap=1)
    assert out.shape == (9, 9, 4)
    back = np.asarray(Image.open(io.BytesIO(png_bytes(out))))
    np.testing.assert_array_equal(back, out)
    np.testing.assert_array_equal(back[0:4:2, 5:9:2, :3], tiles[1])
    np.testing.assert_array_equal(back[5:9:2, 0:4:2, :3], tiles[2])
    assert (back[4, :, 3] == 0).all()
    assert (back[5:, 5:, 3] == 0).all()
