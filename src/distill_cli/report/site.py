"""index.html over many runs: one page with everything in it, and the same figures as files.

The page needs no network and no other file; its policy forbids it to load any. Links to the runs'
own folders are relative, so that page and runs can be moved together.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from distill_cli.report import figures, palette, rowcharts, words
from distill_cli.report.charts import Chart, draw
from distill_cli.report.collect import Collection, Skipped
from distill_cli.report.compare import Comparison, compare
from distill_cli.report.document import document, packaged
from distill_cli.report.headline import headline
from distill_cli.report.heat import data_uri
from distill_cli.report.images import png_bytes
from distill_cli.report.results import write_text
from distill_cli.report.rowcharts import DotChart
from distill_cli.report.sections import pairs
from distill_cli.report.sheets import Sheet, sheets
from distill_cli.report.site_charts import (
    Drawing,
    calibration,
    comparison,
    costs,
    curves,
    style,
)
from distill_cli.report.site_table import copy_button, links, table
from distill_cli.version import __version__

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


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

    def charts(drawings: Iterable[Drawing], broad: bool = False) -> str:
        return grouped([(d.group, drawn(d, figures_)) for d in drawings], broad)

    sections_ = [
        ("runs", "Runs", table(site, out) if site.runs else ""),
        ("comparison", "Comparison of methods", charts(comparison(site), broad=True)
         + '<p class="note">Means are over all runs of a variant, whatever the filters hide.</p>'),
        ("curves", "Training and validation", charts(curves(site))),
        ("galleries", "Coresets", galleries(site, pictures, out)),
        ("calibration", "Calibration", calibration_part(charts(calibration(site)))),
        ("cost", "Time and memory", cost_part(site, charts)),
        ("notes", "Passed over, and what to know", notes(site, skipped)),
    ]  # fmt: skip
    shown = [part for part in sections_ if part[2]]
    menu = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in shown)
    body = "".join(
        f'<section id="{key}"><h2>{name}</h2>\n{inner}</section>\n' for key, name, inner in shown
    )
    return document(
        title, lead(site, skipped), body,
        "Figures come from the runs' result.json, metrics.jsonl and coreset folders.",
        version=__version__,
        meta=f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        style=palette.css() + packaged("site.css"),
        header=f'<nav class="top">{menu}</nav>',
        after='<dialog id="zoom"><img alt=""><p class="note"></p><form method="dialog">'
        '<button class="plain">Close</button></form></dialog>\n',
        script=packaged("site.js"),
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


def drawn(drawing: Drawing, figures_: set[str]) -> str:
    """A chart with links to its files."""
    found = [f"{drawing.slug}.{kind}" for kind in figures.FORMATS]
    ends = "".join(
        f' <a href="figures/{name}">{name.rpartition(".")[2].upper()}</a>'
        for name in found
        if name in figures_
    )
    note = f'<p class="files">{ends}</p>' if ends else ""
    chart = drawing.chart
    if isinstance(chart, Chart):
        return draw(chart, note)
    if isinstance(chart, DotChart):
        return rowcharts.dots(chart, note)
    return rowcharts.bars(chart, note)


def grouped(drawn_: Sequence[tuple[str, str]], broad: bool) -> str:
    """Charts under their headings; "" without any."""
    groups: dict[str, list[str]] = {}
    for heading, html in drawn_:
        groups.setdefault(heading, []).append(html)
    kind = "charts broad" if broad else "charts"
    return "".join(
        f'<div class="group">{f"<h3>{escape(heading)}</h3>" if heading else ""}'
        f'<div class="{kind}">{"".join(parts)}</div></div>'
        for heading, parts in groups.items()
    )


def calibration_part(charts: str) -> str:
    """The diagrams with what they mean; "" without any."""
    if not charts:
        return ""
    return charts + (
        '<p class="note">Share of right predictions against mean confidence, in 15 equal bins; on '
        "the dashed line probabilities are right. Probabilities are softmax(exp(k) f) with the "
        "k that was distilled, or fitted on validation images; runs without such a k have none."
        "</p>"
    )


def galleries(site: Comparison, pictures: Sequence[Sequence[Sheet]], out: Path) -> str:
    """One folded part for each run: sheets, facts, command. The first is open."""
    parts = []
    for i, made in enumerate(pictures):
        run, main = site.runs[i], headline(site.runs[i].result)
        title = escape(site.title(i))
        figure = f"{words.percent(main.accuracy)} ({main.protocol})" if main else ""
        images = "".join(
            f'<figure><figcaption><b>{escape(s.title)}</b></figcaption><button type="button" '
            f'class="picture"><img src="{data_uri(png_bytes(s.picture))}" '
            f'alt="{title}: {escape(s.title, quote=True)}"></button>'
            f'<p class="note">{escape(s.note)}</p></figure>'
            for s in made
        )
        facts = pairs(
            [
                ("Command", run.result.command),
                ("Folder", str(run.folder)),
                ("Device", run.result.device),
                ("Version", run.result.version),
                ("Notes", "; ".join(run.notes)),
            ]
        )
        parts.append(
            f'<details class="run {style(site, site.each[i])}" id="run-{i}" data-runs="{i}"'
            f'{" open" if i == 0 else ""}><summary><i class="chip"></i>{title}'
            f'<small>{escape(figure)}</small></summary><div class="sheets">{images}</div>'
            f"{facts}<p>{copy_button(run)} {links(run, out)}</p></details>"
        )
    return "".join(parts)


def cost_part(site: Comparison, charts: Callable[..., str]) -> str:
    """Bars side by side, then accuracy against cost by data set and size."""
    found = list(costs(site))
    bars = [d for d in found if not d.group]
    return charts(bars, broad=True) + charts(d for d in found if d.group)


def notes(site: Comparison, skipped: Sequence[Skipped]) -> str:
    """Skipped folders, and what a reader has to know about runs."""
    known = [(str(run.folder), "; ".join(run.notes)) for run in site.runs if run.notes]
    passed = [(str(s.folder), s.reason) for s in skipped]
    parts = []
    if known:
        parts.append(f'<h3 class="sub">Runs with a note</h3>{pairs(known)}')
    if passed:
        parts.append(f'<h3 class="sub">Skipped folders</h3>{pairs(passed)}')
    return "".join(parts)
