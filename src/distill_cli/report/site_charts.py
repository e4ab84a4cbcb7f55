"""Which charts a site over many runs has: data, drawn by charts.py, rowcharts.py, figures.py."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from distill_cli.core.stats import mean_std
from distill_cli.report import words
from distill_cli.report.charts import Chart, Series, per_cent, reliability_chart
from distill_cli.report.compare import Comparison
from distill_cli.report.headline import headline
from distill_cli.report.rowcharts import Bar, BarChart, Dot, DotChart
from distill_cli.report.run_result import RunResult

CURVES = (
    ("valid_accuracy", "Validation accuracy"),
    ("accuracy", "Batch accuracy"),
    ("valid_loss", "Validation loss"),
    ("loss", "Batch loss"),
)
TIMES = (("data", "data"), ("distill", "distillation"), ("evaluate", "evaluation"))


class Drawing(NamedTuple):
    """A chart and the name of its files. group: the heading that it belongs under."""

    slug: str
    chart: Chart | DotChart | BarChart
    group: str = ""


def comparison(site: Comparison) -> Iterator[Drawing]:
    """Mean accuracy with its spread over seeds, one chart for each cell."""
    for cell, group in site.cells.items():
        rows = [
            Dot(
                site.names[s.variant], style(site, s.variant), tuple(m.run for m in s.measurements),
                tuple(m.accuracy for m in s.measurements), s.mean, s.std, s.random,
                s.known.mean / 100 if s.known else None,
            )
            for s in group
        ]  # fmt: skip
        yield Drawing(f"accuracy_{cell.slug()}", DotChart(cell.title(), rows))


def style(site: Comparison, variant: int) -> str:
    """The CSS class of a variant's colour; after ten colours they begin again, dashed."""
    colour = site.colours[variant]
    return f"c{colour % 10}" + (" dashed" if colour >= 10 else "")


class Group(NamedTuple):
    """Runs of one data set and size: their numbers, and both in words."""

    slug: str
    title: str
    runs: tuple[int, ...]


def groups(site: Comparison) -> list[Group]:
    """The data sets and sizes at hand, sorted."""
    found: dict[tuple[str, int | None], list[int]] = {}
    for i, run in enumerate(site.runs):
        found.setdefault((words.data_of(run.result), run.result.ipc), []).append(i)
    made = []
    for dataset, ipc in sorted(found, key=lambda key: (key[0], key[1] or 0)):
        size = "" if ipc is None else f", {words.plural(ipc, 'image')} per class"
        title = f"{words.dataset_title(dataset)}{size}"
        made.append(Group(words.slug(f"{dataset}_ipc{ipc}"), title, tuple(found[dataset, ipc])))
    return made


def curves(site: Comparison) -> Iterator[Drawing]:
    """Training and validation over the steps, all runs of a data set and size in one chart."""
    for group in groups(site):
        for key, title in CURVES:
            series = [s for i in group.runs if (s := curve(site, i, key)) is not None]
            text = per_cent if "accuracy" in key else Chart._field_defaults["text"]
            if series:
                chart = Chart(title, series, text)
                yield Drawing(f"curves_{group.slug}_{key}", chart, group.title)


def curve(site: Comparison, run: int, key: str) -> Series | None:
    """One quantity of one run over the steps, None where it was not logged."""
    points = [(m["step"], m[key]) for m in site.runs[run].metrics if key in m]
    if not points:
        return None
    variant = site.each[run]
    x, y = zip(*points, strict=True)
    return Series(site.names[variant], x, y, f"run {style(site, variant)}", run)


def calibration(site: Comparison) -> Iterator[Drawing]:
    """Reliability diagrams, all runs of a cell in one: accuracy against confidence, by bins."""
    cells: dict[Any, list[Series]] = {}
    for m in site.found:
        x, y = m.row.reliability
        if x:
            made = Series(site.names[m.variant], x, y, f"run {style(site, m.variant)}", m.run)
            cells.setdefault(m.cell, []).append(made)
    for cell, series in cells.items():
        yield Drawing(f"calibration_{cell.slug()}", reliability_chart(cell.title(), series))


def costs(site: Comparison) -> Iterator[Drawing]:
    """Seconds of each stage and peak memory; then accuracy against both, of two runs or more."""
    yield from stages(site)
    for group in groups(site):
        for title, name, slug, value in (
            ("Accuracy against time", "seconds of distillation", "accuracy_time", distilling),
            ("Accuracy against memory", "MiB", "accuracy_memory", memory),
        ):
            series = []
            for i in group.runs:
                result, variant = site.runs[i].result, site.each[i]
                first, x = headline(result), value(result)
                if first and first.accuracy is not None and x:
                    mark = style(site, variant)
                    y = [first.accuracy]
                    series.append(Series(site.names[variant], [x], y, mark, i, True))
            if len(series) > 1:
                chart = Chart(
                    title, series, per_cent, x_name=name, x_text=lambda v: f"{v:,g}", x_log=True
                )
                yield Drawing(f"{slug}_{group.slug}", chart, group.title)


def distilling(result: RunResult) -> float | None:
    """Seconds of distillation."""
    return result.seconds.get("distill")


def memory(result: RunResult) -> float | None:
    """MiB at the peak."""
    return result.peak_memory


def stages(site: Comparison) -> Iterator[Drawing]:
    """Mean seconds of each stage, and mean peak memory, by variant."""
    times, memories = [], []
    devices = sorted({run.result.device or "?" for run in site.runs})
    for variant, name in enumerate(site.names):
        runs = tuple(i for i, v in enumerate(site.each) if v == variant)
        results = [site.runs[i].result for i in runs]
        where = f"{name} · {words.run_title(results[0]).partition(' on ')[2]}"
        if len(devices) > 1:
            where += " · " + ", ".join(sorted({r.device or "?" for r in results}))
        parts = tuple(mean([r.seconds.get(key) for r in results]) or 0.0 for key, _ in TIMES)
        mark = style(site, variant)
        if sum(parts):
            times.append(Bar(where, mark, runs, parts, words.duration(sum(parts))))
        if peak := mean([r.peak_memory for r in results]):
            memories.append(Bar(where, mark, runs, (peak,), words.megabytes(peak)))
    keys = tuple(name for _, name in TIMES)
    if times:
        note = f"On {devices[0]}." if len(devices) == 1 else ""
        yield Drawing("time", BarChart("Time, mean over seeds", keys, times, words.duration, note))
    if memories:
        note = "Of the accelerator where it says, else of the process; runs of one sweep share it."
        yield Drawing(
            "memory",
            BarChart("Peak memory, mean over seeds", ("memory",), memories, words.megabytes, note),
        )


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of those that are there, None without any."""
    found = [value for value in values if value is not None]
    return mean_std(found).mean if found else None
