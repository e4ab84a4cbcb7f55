"""report.html: one page that says what a run gave, without any other file or the network."""

from html import escape
from pathlib import Path

import numpy as np

from distill_cli.report import sections, words
from distill_cli.report.charts import Series, draw, reliability_chart
from distill_cli.report.class_charts import classes_part
from distill_cli.report.coreset_files import CoresetFiles, read_coreset, transform_steps
from distill_cli.report.document import document
from distill_cli.report.heat import label_map
from distill_cli.report.results import read_metrics, read_result, write_text
from distill_cli.report.run_result import RunResult
from distill_cli.report.scores import scores_part


def write_report(folder: str | Path, coreset: CoresetFiles | None = None) -> Path:
    """Write `folder`/report.html from the result files beside it. UserError without result.json.

    coreset is the run's coreset where it has been read already.
    """
    result, metrics = read_result(folder), read_metrics(folder)
    coreset = coreset or read_coreset(folder)
    names = result.class_names or tuple(coreset.coreset.class_names if coreset else ())
    text = page(result, metrics, coreset, scores_part(folder, result, names))
    return write_text(Path(folder) / "report.html", text)


def page(
    result: RunResult,
    metrics: list[dict[str, float]],
    coreset: CoresetFiles | None,
    scores: str = "",
) -> str:
    """The whole page. Every part that has no data is left out. scores: HTML of scores_part."""
    body = [
        sections.stats(result),
        _part(
            "Evaluation", sections.bars(result), sections.evaluation_table(result), _details(result)
        ),
        _part("Classes", classes_part(result)),
        _calibration(result),
        _curves(result, metrics),
        _pictures(result, coreset) if coreset else "",
        _part("Scores of real images", scores),
        sections.published_table(result),
        _settings(result, metrics, coreset),
        _commands(result),
    ]
    footer = "Figures come from result.json, metrics.jsonl and the coreset folder beside this page."
    return document(
        words.run_title(result), subtitle(result, coreset), f"{''.join(body)}\n", footer,
        version=result.version,
    )  # fmt: skip


def subtitle(result: RunResult, coreset: CoresetFiles | None) -> str:
    """Size of the set, kind of labels, steps."""
    facts = []
    if coreset:
        n, (_, h, w, c) = coreset.total, coreset.coreset.images.shape
        kind = {1: "grey", 3: "colour"}.get(c, f"{c}-channel")
        facts.append(f"{words.plural(n, f'{kind} image')} of {h} \u00d7 {w} pixels")
        facts.append(words.plural(len(coreset.coreset.class_names), "class"))
    if result.labels:
        facts.append(f"{result.labels} labels")
    if result.steps is not None:
        facts.append(f"{words.count(result.steps)} steps")
    return " · ".join(facts)


def _part(title: str, *pieces: str) -> str:
    inner = "\n".join(piece for piece in pieces if piece)
    return f"<section><h2>{title}</h2>\n{inner}\n</section>\n" if inner else ""


def _details(result: RunResult) -> str:
    rows = [
        (f"{e.protocol}: {key}", value)
        for e in result.evaluations
        for key, value in words.flatten({k: v for k, v in e.detail.items() if k != "calibration"})
    ]
    shown = sections.pairs(rows)
    return (
        f"<details><summary>Details of the evaluations</summary>{shown}</details>" if shown else ""
    )


def _calibration(result: RunResult) -> str:
    """A reliability diagram of each evaluation that has one."""
    drawn = []
    for e in result.evaluations:
        x, y = e.reliability
        title = f"{words.protocol_title(e.protocol)}: accuracy by confidence"
        if x:
            drawn.append(draw(reliability_chart(title, [Series("", x, y, "line-b")])))
    note = (
        "Test images in 15 equal bins of confidence; on the dashed line probabilities are right. "
        "ECE is the mean distance from it, weighted with the images of a bin."
    )
    return (
        _part("Calibration", f'<div class="two">{"".join(drawn)}</div><p class="note">{note}</p>')
        if drawn
        else ""
    )


def _curves(result: RunResult, metrics: list[dict[str, float]]) -> str:
    best = result.best_step
    charts = sections.curves(metrics, best)
    if not charts:
        return ""
    note = "Dense curves show means over neighbouring log lines."
    if best is not None:
        kept = {"best": "the best on validation images", "last": "the last one"}
        note += f" The dashed line marks the step whose coreset was kept: {kept[result.kept]}."
    return _part(
        "Curves", f'<div class="two">{"".join(charts)}</div>', f'<p class="note">{note}</p>'
    )


def images_title(result: RunResult) -> str:
    """Over the gallery of the coreset."""
    return words.coreset_title(result).replace("coreset", "images")


def _pictures(result: RunResult, files_: CoresetFiles) -> str:
    coreset, size = files_.coreset, result.ipc or None
    names = coreset.class_names
    paired = files_.initial is not None
    distilled = sections.gallery(
        images_title(result), files_.distilled, coreset.labels, names, size, paired
    )
    if files_.initial is not None and files_.initial_labels is not None:
        initial = sections.gallery(
            "Initial images", files_.initial, files_.initial_labels, names, size, paired
        )
        pictures = f'<div class="two">{initial}{distilled}</div>'
    else:
        pictures = distilled
    images = _part("Images", pictures)
    return images + _labels(result, coreset.labels, names)


def _labels(result: RunResult, labels: np.ndarray, names: tuple[str, ...]) -> str:
    if result.labels != "learned" or not np.isfinite(labels).any():
        return ""
    share = 1 / labels.shape[1]
    note = (
        "Regression targets that the coreset was distilled with. Fixed labels would be "
        f"{1 - share:.2g} for the class and {words.MINUS}{share:.2g} elsewhere."
    )
    return _part(
        "Learned labels",
        f'<div class="card">{label_map(labels, names)}</div>',
        f'<p class="note">{note}</p>',
    )


def training_text(result: RunResult) -> str:
    """ "287 of 1,438, smallest losses kept"; "" where no image was left out."""
    training = result.training
    if training.get("prune", "none") == "none":
        return ""
    used, images = words.count(training.get("used")), words.count(training.get("images"))
    return f"{used} of {images}, {training['prune']} losses kept"


def _settings(
    result: RunResult, metrics: list[dict[str, float]], files_: CoresetFiles | None
) -> str:
    stored = result.coreset
    rates = [m["steps_per_second"] for m in metrics if "steps_per_second" in m]
    classes = len(result.class_names) or (len(files_.coreset.class_names) if files_ else 0)
    settings = [
        ("Method", words.method_title(result.method)),
        ("Data set", words.dataset_title(words.data_of(result))),
        ("Training images", training_text(result)),
        ("Classes", str(classes or "")),
        ("Images per class", words.count(result.ipc)),
        ("Labels", result.labels),
        ("Initial images", result.init),
        ("Loss", result.loss),
        ("Preprocessing", " ".join(transform_steps(files_.transform)) if files_ else ""),
        ("Seed", words.count(result.seed)),
        ("Steps", words.count(result.steps)),
        (f"{result.kept.capitalize()} step", words.count(result.best_step)),
        ("Validation", _validation(result)),
        ("Stopped", result.stop_reason),
        ("Run digest", result.digest),
    ]
    speed = f"{float(np.median(rates)):.3g} steps per second (median)" if rates else ""
    many = stored.stored_floats
    numbers = "" if many is None else f"{words.count(many)} stored numbers"
    cost = [
        *((f"Time, {name}", words.duration(result.seconds.get(key))) for name, key in _TIMES),
        ("Speed", speed),
        *(
            (f"Peak memory, {key}", words.megabytes(result.peak_memory_mb.get(key)))
            for key in ("host", "device")
        ),
        ("Device", result.device),
        ("Coreset", numbers),
        ("SHA-256 of coreset.npz", stored.sha256),
    ]
    config = sections.pairs(words.flatten(result.config))
    more = f"<details><summary>Full configuration</summary>{config}</details>" if config else ""
    return _part(
        "Settings and cost",
        f'<div class="two">{sections.pairs(settings)}{sections.pairs(cost)}</div>',
        more,
    )


_TIMES = (
    ("data", "data"),
    ("distillation", "distill"),
    ("evaluation", "evaluate"),
    ("total", "total"),
)


def _commands(result: RunResult) -> str:
    shown = f'<pre class="wrap">{escape(result.command)}</pre>' if result.command else ""
    return (
        _part("Command", shown)
        + _part("Environment", sections.pairs(words.flatten(result.environment)))
        + _part(
            "Use the coreset",
            "<p>The folder <code>coreset</code> is all that is needed, with NumPy alone; "
            "<code>card.md</code> in it describes the set, <code>load.py</code> shows PyTorch too."
            "</p>",
            "<pre>import load                              # coreset/load.py\n"
            "coreset = load.load()                    # images, labels, hard_labels, ...\n"
            "x_new = load.preprocess(new_images)      # new images in the space of the coreset\n"
            "pixels = load.to_pixels(coreset.images)  # for looking at them</pre>",
        )
    )


def _validation(result: RunResult) -> str:
    found = result.validation
    if found.accuracy is None:
        return ""
    of = f" of {words.count(found.images)} images" if found.images else ""
    seen = "; they took part in distilling" if result.seen_in_training else ""
    return f"{words.percent(found.accuracy)}{of}, loss {words.decimal(found.loss)}{seen}"
