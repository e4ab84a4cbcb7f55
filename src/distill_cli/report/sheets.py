"""Contact sheets of a run's coreset: before, after in both spaces, and the difference."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill_cli.data.standalone_load import to_pixels
from distill_cli.report import words
from distill_cli.report.coreset_files import CoresetFiles, read_coreset
from distill_cli.report.heat import diverging
from distill_cli.report.images import by_class, mosaic
from distill_cli.report.run_result import RunResult

CLASSES = 20  # classes on a sheet where a class has several images; of more, evenly spaced ones
SINGLES = 100  # classes on a sheet where each has one image
SIDE = 24  # pixels that an image has at least
LIMIT = 99.5  # percentile of absolute values that gets the full colour


class Sheet(NamedTuple):
    """title and note; picture: RGBA uint8 (height, width, 4)."""

    title: str
    note: str
    picture: np.ndarray


def sheets(folder: Path, result: RunResult, images: int) -> list[Sheet]:
    """The sheets of a run, at most `images` images of a class; [] where the coreset is no longer
    there, or belongs to another program.

    The images before: initial.npz, the same places as the distilled ones; without it, or where its
    shape differs, there are only the two sheets after.
    """
    files = read_coreset(folder)
    if files is None or result.coreset.path != "coreset/coreset.npz":
        return []
    groups = by_class(files.coreset.labels, result.ipc or None)
    most = max(len(group) for group in groups)
    shown = spread(len(groups), CLASSES if most > 1 else SINGLES)
    rows = [groups[c][:images] for c in shown]
    columns = max(map(len, rows)) if most > 1 else 5 if len(rows) <= 10 else 10
    names = [files.coreset.class_names[c] for c in shown]

    def sheet(title: str, note: str, tiles: np.ndarray) -> Sheet:
        scale = max(1, round(SIDE / max(tiles.shape[1:3])))
        if most == 1:
            picture = mosaic(tiles[np.concatenate(rows)], columns, scale)
        else:
            parts = [mosaic(tiles[row], columns, scale) for row in rows if len(row)]
            gap = np.zeros((scale, parts[0].shape[1], 4), np.uint8)
            picture = np.concatenate([p for part in parts for p in (part, gap)][:-1])
        return Sheet(title, note, picture)

    after = np.asarray(files.coreset.images)
    made = [
        sheet("After, as the network sees it", space_note(files), symmetric(after)),
        sheet("After, de-whitened to pixels", files.distilled.note(), files.distilled.pixels),
    ]
    if files.initial is not None and files.initial.pixels.shape == files.distilled.pixels.shape:
        change, limit = difference(folder, files)
        before = sheet("Before: initial images", files.initial.note(), files.initial.pixels)
        what = f"After minus before, in pixels: red +{limit:.2g}, blue {words.MINUS}{limit:.2g}."
        made = [before, *made, sheet("Difference", what, change)]
    text = ", ".join(name.replace("_", " ") for name in names)
    more = f" {len(shown)} of {len(groups)} classes." if len(shown) < len(groups) else ""
    cut = f" {columns} of {most} images of each." if most > columns and most > 1 else ""
    how = "Row by row" if most == 1 else "One row for each class"
    return [s._replace(note=f"{s.note} {how}: {text}.{more}{cut}") for s in made]


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below count, evenly spaced."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def space_note(files: CoresetFiles) -> str:
    """What was done to the pixels."""
    whitened = "zca_vectors" in files.transform
    return f"Preprocessed{' and whitened' if whitened else ''}; each image scaled by itself."


def symmetric(images: np.ndarray) -> np.ndarray:
    """Signed images as uint8 (n, h, w, 1 or 3): 0 is mid-grey, the largest absolute value of an
    image is black or white."""
    values = np.nan_to_num(np.asarray(images, np.float64))
    if values.shape[-1] not in (1, 3):
        values = values.mean(axis=-1, keepdims=True)
    peak = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    return np.rint(127.5 * (1 + values / np.where(peak > 0, peak, 1))).astype(np.uint8)


def difference(folder: Path, files: CoresetFiles) -> tuple[np.ndarray, float]:
    """(distilled minus initial images in pixel space as colours (n, h, w, 3), the full colour's
    value); unclipped, mean over channels."""
    with np.load(folder / "coreset" / "initial.npz", allow_pickle=False) as data:
        before = data["images"]
    pair = (to_pixels(x, files.transform) for x in (files.coreset.images, before))
    after, before = (np.nan_to_num(np.asarray(x, np.float64)) for x in pair)
    change = (after - before).mean(axis=-1)
    limit = float(np.percentile(np.abs(change), LIMIT)) or 1.0
    return diverging(change, limit), limit
