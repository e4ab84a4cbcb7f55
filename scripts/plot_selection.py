#!/usr/bin/env python3
"""Draw the recorded tables of subset selection: accuracy against steps.

python scripts/plot_selection.py     writes docs/results/selection_*.png from expected.json
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from distill_cli.tables.registry import default_path, load
from distill_cli.tables.spec import load_table

TABLES = {"selection_kip": 400, "selection_digits": 40}  # with their step budgets
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
    figure, panels = plt.subplots(1, len(rows), figsize=(4.8 * len(rows), 4.2), squeeze=False)
    for panel, row in zip(panels[0], rows, strict=True):
        for entry in entries:
            place, _, column = entry["cell"].rpartition("/")
            if place == row:
                steps, means, spread = points(entry, budget)
                panel.errorbar(steps, means, spread, label=titles[column], marker="o", capsize=3)
        ticks = [0, *(budget * share // 100 for share in (5, 20, 100))]
        panel.set_xscale("log")
        panel.set_xticks([max(FIRST, tick) for tick in ticks], map(str, ticks))
        panel.minorticks_off()
        panel.set(title=row, xlabel="steps", ylabel="test accuracy, %")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    path = Path(__file__).resolve().parents[1] / "docs" / "results" / f"{table}.png"
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def main() -> None:
    """All tables."""
    for table, budget in TABLES.items():
        print(draw(table, budget))


if __name__ == "__main__":
    main()
