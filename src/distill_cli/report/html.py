"""report.html: one page that says what a run gave, without any other file or the network."""

from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.report import sections, words
from distill_cli.report.charts import Series, draw, reliability_chart
from distill_cli.report.class_charts import classes_part
from distill_cli.report.coreset_files import CoresetFiles, read_coreset, transform_steps
from distill_cli.report.headline import headline
from distill_cli.report.heat import label_map
from distill_cli.report.published import published_for
from distill_cli.report.results import read_metrics, read_result, write_text
from distill_cli.report.run_result import RunResult
from distill_cli.report.scores import scores_part
from distill_cli.report.templating import Markup, render

TIMES = (
    ("data", "data"),
    ("distillation", "distill"),
    ("evaluation", "evaluate"),
    ("total", "total"),
)
KEPT = {"best": "the best on validation images", "last": "the last one"}


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
    scores: Markup = Markup(""),  # noqa: B008
) -> str:
    """The whole page. Every part that has no data is left out. scores: HTML of scores_part."""
    main = headline(result)
    return render(
        "run.html", title=words.run_title(result), lead=subtitle(result, coreset),
        version=result.version, unclear=words.UNCLEAR,
        cards=sections.cards(result, main) if main else [],
        compared=sections.compared(published_for(result, main), main) if main else "",
        bars=sections.bars(result), evaluations=sections.evaluation_table(result),
        details=details(result), classes=classes_part(result), calibration=calibration(result),
        curves=sections.curves(metrics, result.best_step),
        kept="" if result.best_step is None else KEPT[result.kept],
        galleries=galleries(result, coreset) if coreset else [],
        labels=labels(result, coreset) if coreset else None,
        scores=scores, published=sections.published_table(result),
        settings=settings(result, coreset), cost=cost(result, metrics),
        configuration=words.flatten(result.config), command=result.command,
        environment=words.flatten(result.environment),
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


def details(result: RunResult) -> list[tuple[str, str]]:
    """What else the evaluations say."""
    return [
        (f"{e.protocol}: {key}", value)
        for e in result.evaluations
        for key, value in words.flatten({k: v for k, v in e.detail.items() if k != "calibration"})
    ]


def calibration(result: RunResult) -> list[Markup]:
    """A reliability diagram of each evaluation that has one."""
    drawn = []
    for e in result.evaluations:
        x, y = e.reliability
        title = f"{words.protocol_title(e.protocol)}: accuracy by confidence"
        if x:
            drawn.append(draw(reliability_chart(title, [Series("", x, y, "line-b")])))
    return drawn


def images_title(result: RunResult) -> str:
    """Over the gallery of the coreset."""
    return words.coreset_title(result).replace("coreset", "images")


def galleries(result: RunResult, files_: CoresetFiles) -> list[sections.Gallery]:
    """The initial images, where they were kept, and the coreset."""
    coreset, size = files_.coreset, result.ipc or None
    names, paired = coreset.class_names, files_.initial is not None
    title = images_title(result)
    shown = [sections.gallery(title, files_.distilled, coreset.labels, names, size, paired)]
    if files_.initial is not None and files_.initial_labels is not None:
        before = files_.initial, files_.initial_labels
        shown.insert(0, sections.gallery("Initial images", *before, names, size, paired))
    return shown


def labels(result: RunResult, files_: CoresetFiles) -> dict[str, Any] | None:
    """Learned labels as a heat map, with what fixed ones would be."""
    found = files_.coreset.labels
    if result.labels != "learned" or not np.isfinite(found).any():
        return None
    share = 1 / found.shape[1]
    note = (
        "Regression targets that the coreset was distilled with. Fixed labels would be "
        f"{1 - share:.2g} for the class and {words.MINUS}{share:.2g} elsewhere."
    )
    return {"map": label_map(found, files_.coreset.class_names), "note": note}


def training_text(result: RunResult) -> str:
    """ "287 of 1,438, smallest losses kept"; "" where no image was left out."""
    training = result.training
    if training.get("prune", "none") == "none":
        return ""
    used, images = words.count(training.get("used")), words.count(training.get("images"))
    return f"{used} of {images}, {training['prune']} losses kept"


def settings(result: RunResult, files_: CoresetFiles | None) -> list[tuple[str, str]]:
    """What was run, in words."""
    classes = len(result.class_names) or (len(files_.coreset.class_names) if files_ else 0)
    return [
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
        ("Validation", validation(result)),
        ("Stopped", result.stop_reason),
        ("Run digest", result.digest),
    ]


def cost(result: RunResult, metrics: list[dict[str, float]]) -> list[tuple[str, str]]:
    """Time, memory and size."""
    stored = result.coreset
    rates = [m["steps_per_second"] for m in metrics if "steps_per_second" in m]
    speed = f"{float(np.median(rates)):.3g} steps per second (median)" if rates else ""
    many = stored.stored_floats
    numbers = "" if many is None else f"{words.count(many)} stored numbers"
    return [
        *((f"Time, {name}", words.duration(result.seconds.get(key))) for name, key in TIMES),
        ("Speed", speed),
        *(
            (f"Peak memory, {key}", words.megabytes(result.peak_memory_mb.get(key)))
            for key in ("host", "device")
        ),
        ("Device", result.device),
        ("Coreset", numbers),
        ("SHA-256 of coreset.npz", stored.sha256),
    ]


def validation(result: RunResult) -> str:
    """Accuracy and loss on validation images."""
    found = result.validation
    if found.accuracy is None:
        return ""
    of = f" of {words.count(found.images)} images" if found.images else ""
    seen = "; they took part in distilling" if result.seen_in_training else ""
    return f"{words.percent(found.accuracy)}{of}, loss {words.decimal(found.loss)}{seen}"
