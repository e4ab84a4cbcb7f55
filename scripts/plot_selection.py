#!/usr/bin/env python3
"""Draw the recorded tables of subset selection: accuracy against steps.

python scripts/plot_selection.py     writes docs/results/selection_*.png from expected.json
"""

from pathlib import Path
from typing import Any

from distill_cli.core.files import write_bytes
from distill_cli.report import plots
from distill_cli.tables.registry import default_path, load
from distill_cli.tables.spec import load_table

TABLES = {"selection_kip": 400, "selection_digits": 40}  # with their step budgets
LOWEST = 60.0  # noise as a start, before the first step, is far below
FIRST = 1.0  # step 0 has no place on a logarithmic axis


def points(entry: dict[str, Any], budget: int) -> tuple[list[float], list[float], list[float]]:
    """(steps, means, deviations) of a cell's accuracies at shares of the budget."""
    found = {entry["metric"]: entry, **entry["extra"]}
    shares = {name: row for name, row in found.items() if name.startswith("at ")}
    steps = [max(FIRST, float(name[3:].rstrip("%")) / 100 * budget) for name in shares]
    return steps, [r["mean"] for r in shares.values()], [r["std"] or 0 for r in shares.values()]


def draw(table: str, budget: int) -> Path:
    """One panel per row of the table, one line per column."""
    entries = [entry for entry in load(default_path()) if entry["table"] == table]
    titles = load_table(table).columns
    rows = sorted({entry["cell"].rpartition("/")[0] for entry in entries})
    down = (len(rows) + 1) // 2

    def paint(figure: Any) -> None:
        panels = figure.subplots(down, 2, squeeze=False)
        for panel in panels.flat[len(rows) :]:
            panel.remove()
        for panel, row in zip(panels.flat, rows, strict=False):
            drawn = []
            for place, (column, title) in enumerate(titles.items()):
                found = [e for e in entries if e["cell"] == f"{row}/{column}"]
                drawn += [plots.Curve(title, *points(e, budget), colour=place) for e in found]
            plots.plot(panel, drawn)
            ticks = sorted({step for curve in drawn for step in curve.x})
            panel.set_xscale("log")
            panel.set_xticks(ticks, [f"{tick if tick > FIRST else 0:g}" for tick in ticks])
            panel.minorticks_off()
            panel.set_ylim(bottom=max(panel.get_ylim()[0], LOWEST))
            panel.set(title=row, xlabel="steps", ylabel="test accuracy, %")
        lines, names = panels.flat[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=3)

    path = Path(__file__).resolve().parents[1] / "docs" / "results" / f"{table}.png"
    write_bytes(path, plots.picture(paint, (9, 3.4 * down + 0.6)))
    return path


def main() -> None:
    """All tables."""
    for table, budget in TABLES.items():
        print(draw(table, budget))


if __name__ == "__main__":
    main()
