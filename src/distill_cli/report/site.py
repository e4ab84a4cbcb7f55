"""index.html over many runs: one page with everything in it, and the same figures as files.

The page needs no network and no other file; its policy forbids it to load any. Links to the runs'
own folders are relative, so that page and runs can be moved together.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distill_cli.report import figures, palette, rowcharts, words
from distill_cli.report.charts import Chart, draw
from distill_cli.report.collect import Collection, Skipped
from distill_cli.report.compare import Comparison, compare
from distill_cli.report.headline import headline
from distill_cli.report.heat import data_uri
from distill_cli.report.images import png_bytes
from distill_cli.report.results import write_text
from distill_cli.report.rowcharts import DotChart
from distill_cli.report.sheets import Sheet, sheets
from distill_cli.report.site_charts import (
    Drawing,
    calibration,
    comparison,
    costs,
    curves,
    style,
)
from distill_cli.report.site_table import place, table
from distill_cli.report.templating import Markup, macro, render
from distill_cli.version import __version__


class Written(NamedTuple):
    """The page, and the files in figures/ beside it."""

    page: Path
    figures: list[str]


def write_site(
    collection: Collection, out: Path, title: str, images: int, with_figures: bool
) -> Written:
    """Write `out`/index.html and, with_figures, `out`/figures/*.png and *.svg.

    images: most images of a class in a gallery. Figures of an earlier site stay where the new one
    has none of that name.
    """
    site = compare(collection.runs)
    pictures = [sheets(run.folder, run.result, images) for run in site.runs]
    drawings = [*comparison(site), *curves(site), *calibration(site), *costs(site)]
    names: list[str] = []
    if with_figures:
        for drawing in drawings:
            heading = " · ".join(filter(None, [drawing.group, drawing.chart.title]))
            chart = drawing.chart._replace(title=heading)
            names += figures.write(out / "figures", drawing.slug, chart)
        for i, made in enumerate(pictures):
            if made:
                names += figures.write(out / "figures", gallery_slug(site, i), made)
    text = page(site, collection.skipped, pictures, out.resolve(), title, set(names))
    return Written(write_text(out / "index.html", text), names)


def gallery_slug(site: Comparison, run: int) -> str:
    """The file name of a run's pictures, which other runs do not have."""
    result = site.runs[run].result
    data = words.dataset_key(result.dataset)
    parts = ("gallery", result.method, data, f"ipc{result.ipc}", site.runs[run].name)
    return words.slug("_".join(parts))


def page(
    site: Comparison,
    skipped: Sequence[Skipped],
    pictures: Sequence[Sequence[Sheet]],
    out: Path,
    title: str,
    figures_: set[str],
) -> str:
    """The whole page as HTML. figures_: names of files beside it, to link to."""
    found = list(costs(site))
    stages = [d for d in found if not d.group]
    return render(
        "site.html", title=title, lead=lead(site, skipped), version=__version__,
        palette=Markup(palette.css()), unclear=words.UNCLEAR, table=table(site),
        runs=[shown_run(site, i, made, out) for i, made in enumerate(pictures)],
        comparison=grouped(comparison(site), figures_), curves=grouped(curves(site), figures_),
        calibration=grouped(calibration(site), figures_), stages=grouped(stages, figures_),
        costs=grouped([d for d in found if d.group], figures_),
        noted=[(str(run.folder), "; ".join(run.notes)) for run in site.runs if run.notes],
        skipped=[(str(s.folder), s.reason) for s in skipped],
    )  # fmt: skip


def lead(site: Comparison, skipped: Sequence[Skipped]) -> str:
    """How much there is."""
    facts = [words.plural(len(site.runs), "run"), words.plural(len(site.found), "evaluation")]
    methods = {run.result.method for run in site.runs}
    datasets = {words.data_of(run.result) for run in site.runs}
    facts += [words.plural(len(methods), "method"), words.plural(len(datasets), "data set")]
    if skipped:
        facts.append(f"{words.plural(len(skipped), 'folder')} skipped")
    return " · ".join(facts)


def drawn(drawing: Drawing, figures_: set[str]) -> Markup:
    """A chart with links to its files."""
    found = [f"{drawing.slug}.{kind}" for kind in figures.FORMATS]
    note = macro("parts.html", "figure_files")([name for name in found if name in figures_])
    chart = drawing.chart
    if isinstance(chart, Chart):
        return draw(chart, note)
    if isinstance(chart, DotChart):
        return rowcharts.dots(chart, note)
    return rowcharts.bars(chart, note)


def grouped(drawings: Iterable[Drawing], figures_: set[str]) -> list[tuple[str, list[Markup]]]:
    """(heading, charts) in order."""
    groups: dict[str, list[Markup]] = {}
    for drawing in drawings:
        groups.setdefault(drawing.group, []).append(drawn(drawing, figures_))
    return list(groups.items())


def shown_run(site: Comparison, number: int, made: Sequence[Sheet], out: Path) -> dict[str, Any]:
    """A run with its sheets; facts stand below them."""
    run = site.runs[number]
    main = headline(run.result)
    return {
        "title": site.title(number), "style": style(site, site.each[number]), "notes": run.notes,
        "figure": f"{words.percent(main.accuracy)} ({main.protocol})" if main else "",
        "command": run.result.command, "place": place(run, out),
        "has_report": (run.folder / "report.html").is_file(),
        "sheets": [
            {"title": s.title, "note": s.note, "address": data_uri(png_bytes(s.picture))}
            for s in made
        ],
        "facts": [
            ("Command", run.result.command),
            ("Folder", str(run.folder)),
            ("Device", run.result.device),
            ("Version", run.result.version),
            ("Notes", "; ".join(run.notes)),
        ],
    }  # fmt: skip
