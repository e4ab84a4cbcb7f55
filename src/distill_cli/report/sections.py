"""What report.html shows of a run, as values for its template (run.html)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from distill_cli.report import words
from distill_cli.report.charts import Series, line_chart, per_cent
from distill_cli.report.heat import data_uri
from distill_cli.report.images import View, by_class, mosaic, png_bytes
from distill_cli.report.published import Published, published_cell, published_for
from distill_cli.report.run_result import Evaluation, RunResult
from distill_cli.report.templating import Markup


class Card(NamedTuple):
    """One of the figures on top. what: below it; gain: in points, before `what`, clear: of its
    error; main: the run's own."""

    title: str
    accuracy: float | None
    spread: float | None
    what: str
    main: bool = False
    gain: str = ""
    clear: bool = False
    digits: int = 2


def cards(result: RunResult, main: Evaluation) -> list[Card]:
    """The three figures on top: random real images, the coreset, the published value."""
    before, known = main.real, published_for(result, main)
    protocol, found = words.protocol_title(main.protocol), []
    if before.accuracy is not None:
        what = f"mean of {before.n} draws" if (before.n or 0) > 1 else "same number of images"
        found.append(Card("Random real images", before.accuracy, before.std, what))
    repeats = f" · mean of {main.n} runs" if (main.n or 0) > 1 else ""
    clear = main.clear_gain
    gain = "" if main.gain is None else words.points(main.gain, clear)
    found.append(
        Card(words.coreset_title(result), main.accuracy, main.std, protocol + repeats, True, gain,
             clear)
    )  # fmt: skip
    if known:
        title = f"Published, {words.method_title(known.method)}"
        figure = known.mean / 100, fraction(known.spread)
        found.append(Card(title, *figure, protocol, digits=1))
    return found


def compared(known: Published | None, evaluation: Evaluation) -> str:
    """What the published figure is, and how far it compares."""
    if known is None:
        text = (
            "No published figure is recorded for this method, data set, size, kind of labels and "
            "protocol."
        )
    else:
        images = words.count(evaluation.images)
        text = (
            f"Published figure: {known.source}; {known.note}. Same method, data set, images per "
            "class, labels and protocol as here; architecture, number of networks and optimisation "
            f"may differ. Measured here on {images} test images. The source does not say what kind "
            "of spread it gives."
        )
    return text


def fraction(percent: float | None) -> float | None:
    """Percent as a fraction; None stays."""
    return None if percent is None else percent / 100


class Bar(NamedTuple):
    """An accuracy as a bar; style: a CSS class behind "fill"."""

    style: str
    name: str
    width: str
    text: str


def bars(result: RunResult) -> list[tuple[str, list[Bar]]]:
    """Accuracy per protocol as bars from 0 to 100 %: (protocol, bars)."""
    groups = []
    for e in result.evaluations:
        known = published_for(result, e)
        rows = [
            ("", "Random real images", e.real.accuracy, e.real.std, 2),
            *(
                ("", f"Real images, {name}", found.accuracy, found.std, 2)
                for name, found in e.other_real.items()
            ),
            (" ours", words.coreset_title(result), e.accuracy, e.std, 2),
            (" pub", "Published", known and known.mean / 100, known and fraction(known.spread), 1),
        ]
        drawn = [
            Bar(style, name, f"{100 * min(max(value, 0), 1):.2f}%",
                words.percent(value, spread, digits))
            for style, name, value, spread, digits in rows
            if value is not None
        ]  # fmt: skip
        if drawn:
            groups.append((words.protocol_title(e.protocol), drawn))
    return groups


class Table(NamedTuple):
    """A table with a note below it."""

    head: list[str]
    rows: list[list[str]]
    note: str


def evaluation_table(result: RunResult) -> Table | None:
    """Every evaluation: accuracy, baseline, gain, calibration, time, published figure; balanced
    accuracy where it says something else (RunResult.shows_balanced)."""
    found = result.evaluations
    if not found:
        return None
    balanced = result.shows_balanced
    head = ["Protocol", "Accuracy", *(["Balanced"] if balanced else []), "Random real",
            *(["Balanced, random"] if balanced else []), "Gain, points", "Published", "NLL", "ECE",
            "Runs", "Test images", "Time"]  # fmt: skip
    rows = []
    for e in found:
        known = published_for(result, e)
        rows.append(
            [
                words.protocol_title(e.protocol),
                words.percent(e.accuracy, e.std),
                *([words.percent(e.balanced_accuracy)] if balanced else []),
                words.percent(e.real.accuracy, e.real.std),
                *([words.percent(e.real.balanced_accuracy)] if balanced else []),
                words.points(e.gain, e.clear_gain),
                known.text() if known else words.NONE,
                words.decimal(e.nll),
                words.decimal(e.ece, 3),
                words.count(e.n),
                words.count(e.images),
                words.duration(e.seconds),
            ]
        )
    errors = [e.sampling_error for e in found if e.sampling_error is not None]
    note = "± is the standard deviation over runs (coreset) or draws (random real images)."
    if not all(e.clear_gain for e in found):
        note += f" {words.UNCLEAR.capitalize()}."
    if balanced:
        note += " Balanced accuracy is the mean over the classes: each counts the same."
    if errors:
        note += (
            f" The number of test images alone leaves a standard error of about "
            f"{100 * max(errors):.2f} points on an accuracy."
        )
    return Table(head, rows, note)


class PublishedTable(NamedTuple):
    """marks: rows that compare like with like."""

    rows: list[list[str]]
    marks: list[bool]
    source: str


def published_table(result: RunResult) -> PublishedTable | None:
    """All published figures for this data set and size, with their protocols."""
    cell = published_cell(result.dataset, result.ipc)
    if not cell:
        return None
    same = {published_for(result, e) for e in result.evaluations}
    rows = [
        [words.method_title(r.method), r.labels, r.text(), words.protocol_title(r.protocol)]
        for r in cell
    ]
    return PublishedTable(rows, [row in same for row in cell], cell[0].source)


def curves(metrics: Sequence[Mapping[str, float]], best_step: float | None) -> list[Markup]:
    """Loss, accuracy, temperature and speed over steps; only those that were logged."""

    def series(key: str, name: str, style: str) -> Series:
        points = [(m["step"], m[key]) for m in metrics if key in m]
        return Series(name, [p[0] for p in points], [p[1] for p in points], style)

    losses = [series("loss", "batch", "line-a"), series("valid_loss", "validation", "line-b")]
    accuracies = [
        series("accuracy", "batch", "line-a"),
        series("valid_accuracy", "validation", "line-b"),
    ]
    charts = [
        line_chart("Loss", losses, mark=best_step),
        line_chart("Accuracy", accuracies, per_cent, best_step),
        line_chart("Temperature", [series("temperature", "temperature", "line-a")], mark=best_step),
        line_chart("Speed", [series("steps_per_second", "steps per second", "line-a")], zero=True),
    ]
    return [chart for chart in charts if chart]


class Tile(NamedTuple):
    """The images of a class as one picture."""

    name: str
    count: int
    address: str


class Gallery(NamedTuple):
    """One tile per class; grid: CSS."""

    title: str
    tiles: list[Tile]
    grid: str
    note: str


def gallery(
    title: str, seen: View, labels: np.ndarray, names: Sequence[str], ipc: int | None, paired: bool
) -> Gallery:
    """Images as one tile per class with its name underneath; the tiles flow with the page's width.

    paired says that two galleries share the width of the page.
    """
    groups = by_class(labels, ipc)
    largest = max(len(group) for group in groups)
    columns = largest if largest <= 3 else 5 if largest <= 20 else 10
    scale = max(1, round(32 / max(seen.pixels.shape[1:3])))
    narrow = (88 if len(groups) <= 20 else 66) if columns <= 3 else 150 if columns == 5 else 240
    tiles = [
        Tile(name.replace("_", " "), len(group),
             data_uri(png_bytes(mosaic(seen.pixels[group], columns, scale))))
        for name, group in zip(names, groups, strict=True)
        if len(group)
    ]  # fmt: skip
    share = 0 if columns <= 3 else 34 if paired else 18
    grid = f"grid-template-columns:repeat(auto-fill,minmax(max({narrow}px,{share}%),1fr))"
    return Gallery(title, tiles, grid, seen.note())
