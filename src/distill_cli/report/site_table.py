"""The table of a site: one row for each evaluation of each run, with filters above it."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from distill_cli.report import words
from distill_cli.report.collect import Run
from distill_cli.report.compare import Comparison, Measurement
from distill_cli.report.json_values import number
from distill_cli.report.run_result import Evaluation
from distill_cli.report.site_charts import style


class Column(NamedTuple):
    """key: its name in the page's script; numeric: sorted as numbers; choice: has a filter."""

    key: str
    title: str
    numeric: bool = False
    choice: bool = False


COLUMNS = (
    Column("method", "Method", choice=True),
    Column("dataset", "Data set", choice=True),
    Column("ipc", "IPC", numeric=True, choice=True),
    Column("labels", "Labels", choice=True),
    Column("seed", "Seed", numeric=True, choice=True),
    Column("init", "Init", choice=True),
    Column("sampler", "Sampler", choice=True),
    Column("protocol", "Protocol", choice=True),
    Column("accuracy", "Accuracy", numeric=True),
    Column("random", "Random real", numeric=True),
    Column("gain", "Gain", numeric=True),
    Column("published", "Published", numeric=True),
    Column("seconds", "Distilling", numeric=True),
    Column("memory", "Memory", numeric=True),
    Column("version", "Version", choice=True),
)
Values = dict[str, tuple[object, str]]  # key -> (what is sorted by, what is shown)


def values(run: Run, row: Measurement | None) -> Values:
    """A row of the table. row: None for a run that was not evaluated."""
    result = run.result
    measured, known = (row.row, row.known) if row else (Evaluation(), None)
    before, seconds, memory = measured.real, result.seconds.get("distill"), result.peak_memory

    def word(value: object) -> tuple[object, str]:
        return (None, words.NONE) if value is None or value == "" else (value, str(value))

    return {
        "method": word(words.run_maker(result)),
        "dataset": word(words.dataset_title(words.data_of(result))),
        "ipc": word(result.ipc),
        "labels": word(result.labels),
        "seed": word(result.seed),
        "init": word(result.init),
        "sampler": word(result.option("sampler", "name")),
        "protocol": word(measured.protocol),
        "accuracy": (measured.accuracy, words.percent(measured.accuracy, measured.std)),
        "random": (before.accuracy, words.percent(before.accuracy, before.std)),
        "gain": (measured.gain, words.points(measured.gain, measured.clear_gain)),
        "published": (known and known.mean, known.text() if known else words.NONE),
        "seconds": (seconds, words.duration(seconds)),
        "memory": (memory, words.megabytes(memory)),
        "version": word(result.version),
    }


def table(site: Comparison, out: Path) -> str:
    """Filters, count and table. out: the folder of the page, for links to the runs."""
    lines: list[tuple[int, Values]] = []
    for i, run in enumerate(site.runs):
        rows: list[Measurement | None] = [m for m in site.found if m.run == i]
        lines += [(i, values(run, row)) for row in rows or [None]]
    columns = [c for c in COLUMNS if any(line[c.key][0] is not None for _, line in lines)]
    head = "".join(
        f'<th scope="col" data-key="{c.key}" data-type="{"n" if c.numeric else "t"}" '
        f'aria-sort="none"><button type="button">{c.title}</button></th>'
        for c in columns
    )
    body = "".join(_row(site, run, line, columns, out) for run, line in lines)
    return (
        f"{filters(columns, [line for _, line in lines])}"
        f'<div class="scroll" tabindex="0"><table id="table" class="wide"><thead><tr>{head}'
        '<th scope="col">Command</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        '<p class="note">Accuracy on test images; ± is the standard deviation over networks of one '
        f"run; {words.UNCLEAR}. A published figure stands beside a run of the same method, data "
        "set, size, labels, kernel network and protocol only.</p>"
    )


def _row(site: Comparison, run: int, line: Values, columns: Sequence[Column], out: Path) -> str:
    cells = ""
    for c in columns:
        key, text = line[c.key]
        sort = "" if key is None else f"{key:.10g}" if isinstance(key, float) else str(key)
        shown = escape(text)
        if c.key == "method":
            shown = f'<i class="chip"></i><a href="#run-{run}">{shown}</a>'
        if c.key == "version" and site.runs[run].notes:
            notes = escape("; ".join(site.runs[run].notes), quote=True)
            shown += f' <span class="badge" title="{notes}">note</span>'
        gained = c.key == "gain" and isinstance(key, float) and key > 0 and shown[0] != "("
        mark = ' class="gain"' if gained else ""
        cells += (
            f'<td data-label="{c.title}" data-v="{escape(sort, quote=True)}"{mark}>{shown}</td>'
        )
    return (
        f'<tr class="{style(site, site.each[run])}" data-runs="{run}">{cells}'
        f'<td data-label="Command">{copy_button(site.runs[run])} {links(site.runs[run], out)}</td>'
        "</tr>"
    )


def copy_button(run: Run) -> str:
    """A button that copies the run's command."""
    command = escape(run.result.command, quote=True)
    return f'<button type="button" class="copy" data-copy="{command}">Copy</button>'


def links(run: Run, out: Path) -> str:
    """Links to the run's own report, where it has one, and to its folder; relative."""
    place = Path(os.path.relpath(run.folder, out)).as_posix()
    target = escape(place, quote=True).replace("#", "%23").replace("?", "%3F")
    report = f'<a href="{target}/report.html">report</a> '
    has = (run.folder / "report.html").is_file()
    return f'{report if has else ""}<a href="{target}/">folder</a>'


def filters(columns: Sequence[Column], lines: Sequence[Values]) -> str:
    """A search field, a choice for each column with several values, sorting, and a count."""
    parts = [
        '<label class="field">Search<input id="search" type="search" autocomplete="off" '
        'placeholder="any text"></label>'
    ]
    for c in columns:
        found = {line[c.key][1]: line[c.key][0] for line in lines}
        if c.choice and len(found) > 1:
            numeric = c.numeric and all(number(v) is not None for v in found.values())
            order = sorted(found, key=lambda text: (float(text), "") if numeric else (0.0, text))
            options = "".join(f"<option>{escape(text)}</option>" for text in order)
            parts.append(
                f'<label class="field">{c.title}<select data-filter="{c.key}">'
                f'<option value="">all</option>{options}</select></label>'
            )
    sorts = "".join(f'<option value="{c.key}">{c.title}</option>' for c in columns)
    parts.append(
        f'<label class="field narrow">Sort by<select id="sort"><option value="">as found</option>'
        f"{sorts}</select></label>"
    )
    return (
        f'<form id="filters" class="filters">{"".join(parts)}'
        '<button type="reset" class="plain">Reset</button>'
        '<output id="count" aria-live="polite"></output></form>'
    )
