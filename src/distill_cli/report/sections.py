"""The parts of report.html, each a function from result data to a piece of HTML."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from distill_cli.report import words
from distill_cli.report.charts import Series, line_chart, per_cent
from distill_cli.report.headline import headline
from distill_cli.report.heat import data_uri
from distill_cli.report.images import View, by_class, mosaic, png_bytes
from distill_cli.report.published import Published, published_cell, published_for
from distill_cli.report.run_result import Evaluation, Measured, RunResult


def stats(result: RunResult) -> str:
    """The three figures on top: random real images, the coreset, the published value."""
    main = headline(result)
    if main is None:
        return '<p class="card">This result holds no finished evaluation.</p>'
    before, known = main.real, published_for(result, main)
    protocol = escape(words.protocol_title(main.protocol))
    cards: list[tuple[str, str, Measured, str]] = []
    if before.accuracy is not None:
        what = f"mean of {before.n} draws" if (before.n or 0) > 1 else "same number of images"
        cards.append(("", "Random real images", before, what))
    change, clear = main.gain, main.clear_gain
    repeats = f" · mean of {main.n} runs" if (main.n or 0) > 1 else ""
    mark = ' class="gain"' if clear else f' title="{words.UNCLEAR}"'
    text = f"<span{mark}>{words.points(change, clear)} points</span>" if change is not None else ""
    cards.append(
        (
            " main",
            words.coreset_title(result),
            main,
            " · ".join(filter(None, [text, protocol])) + repeats,
        )
    )
    parts = [
        f'<div class="card stat{style}"><div class="what">{title}</div><div class="big">'
        f"{_big(figure.accuracy, figure.std)}</div>"
        f'<div class="what">{what}</div></div>'
        for style, title, figure, what in cards
    ]
    if known:
        parts.append(
            '<div class="card stat"><div class="what">'
            f"Published, {words.method_title(known.method)}</div>"
            f'<div class="big">{_big(known.mean / 100, fraction(known.spread), 1)}</div>'
            f'<div class="what">{protocol}</div></div>'
        )
    return f'<div class="stats">{"".join(parts)}</div>{_setting(known, main)}'


def _setting(known: Published | None, evaluation: Evaluation) -> str:
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
    return f'<p class="note">{escape(text)}</p>'


def fraction(percent: float | None) -> float | None:
    """Percent as a fraction; None stays."""
    return None if percent is None else percent / 100


def _big(accuracy: object, spread: object = None, digits: int = 2) -> str:
    head, sign, tail = words.percent(accuracy, spread, digits).partition(" ± ")
    return f"{head} <small>{sign.strip()} {tail}</small>" if sign else head


def bars(result: RunResult) -> str:
    """Accuracy per protocol as bars from 0 to 100 %."""
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
            f'<div class="bar"><span>{name}</span><div class="track" aria-hidden="true"><div '
            f'class="fill{style}" style="width:{100 * min(max(value, 0), 1):.2f}%"></div></div>'
            f'<span class="val">{words.percent(value, spread, digits)}</span></div>'
            for style, name, value, spread, digits in rows
            if value is not None
        ]
        if drawn:
            title = escape(words.protocol_title(e.protocol))
            groups.append(f"<div><h3>{title}</h3>{''.join(drawn)}</div>")
    return f'<div class="card bars">{"".join(groups)}</div>' if groups else ""


def evaluation_table(result: RunResult) -> str:
    """Every evaluation: accuracy, baseline, gain, calibration, time, published figure; balanced
    accuracy where it says something else (RunResult.shows_balanced)."""
    found = result.evaluations
    if not found:
        return ""
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
    return table(head, rows) + f'<p class="note">{note}</p>'


def published_table(result: RunResult) -> str:
    """All published figures for this data set and size, with their protocols."""
    cell = published_cell(result.dataset, result.ipc)
    if not cell:
        return ""
    same = {published_for(result, e) for e in result.evaluations}
    rows = [
        [words.method_title(r.method), r.labels, r.text(), words.protocol_title(r.protocol)]
        for r in cell
    ]
    marks = [row in same for row in cell]
    return (
        f"<h2>Published figures for this data set and size</h2>"
        f"{table(('Method', 'Labels', 'Test accuracy', 'Protocol'), rows, marks, 'left')}"
        f'<p class="note">{escape(cell[0].source)}. Protocols differ between methods: '
        "only a row with the same method, labels and protocol as this run (highlighted) compares "
        "like with like.</p>"
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[bool] = (), style: str = ""
) -> str:
    """A table that scrolls sideways on narrow screens; the first column names the row.

    marks highlights rows; style is a CSS class of the table.
    """
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = ""
    for i, (first, *rest) in enumerate(rows):
        same = ' class="same"' if i < len(marks) and marks[i] else ""
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        body += f'<tr{same}><th scope="row">{escape(str(first))}</th>{cells}</tr>'
    return (
        f'<div class="scroll" tabindex="0"><table class="{style}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns; rows without a value are left out."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows
        if value and value != words.NONE
    )
    return (
        f'<div class="scroll"><table class="pairs"><tbody>{body}</tbody></table></div>'
        if body
        else ""
    )


def curves(metrics: Sequence[Mapping[str, float]], best_step: float | None) -> list[str]:
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


def gallery(
    title: str, seen: View, labels: np.ndarray, names: Sequence[str], ipc: int | None, paired: bool
) -> str:
    """Images as one tile per class with its name underneath; the tiles flow with the page's width.

    paired says that two galleries share the width of the page.
    """
    groups = by_class(labels, ipc)
    largest = max(len(group) for group in groups)
    columns = largest if largest <= 3 else 5 if largest <= 20 else 10
    scale = max(1, round(32 / max(seen.pixels.shape[1:3])))
    narrow = (88 if len(groups) <= 20 else 66) if columns <= 3 else 150 if columns == 5 else 240
    tiles = ""
    for name, group in zip(names, groups, strict=True):
        if len(group):
            picture = data_uri(png_bytes(mosaic(seen.pixels[group], columns, scale)))
            words_ = escape(name.replace("_", " "))
            tiles += (
                f'<figure><img src="{picture}" alt="{escape(title, quote=True)}: {words_}, '
                f'{words.plural(len(group), "image")}"><figcaption>{words_}</figcaption></figure>'
            )
    share = 0 if columns <= 3 else 34 if paired else 18
    grid = f"grid-template-columns:repeat(auto-fill,minmax(max({narrow}px,{share}%),1fr))"
    return (
        f'<div><h3 class="sub">{escape(title)}</h3><div class="tiles" style="{grid}">{tiles}</div>'
        f'<p class="note">{escape(seen.note())}</p></div>'
    )
