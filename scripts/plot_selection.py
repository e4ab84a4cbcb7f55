#!/usr/bin/env python3
"""Draw the recorded table selection_kip: accuracy against the share of the step budget.

python scripts/plot_selection.py     writes docs/results/selection_kip.png from expected.json
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from distill_cli.tables.registry import default_path, load
from distill_cli.tables.spec import load_table

TABLE = "selection_kip"
STEPS = 400
FIRST = 1.0  # step 0 has no place on a logarithmic axis


def points(entry: dict[str, Any]) -> tuple[list[float], list[float], list[float]]:
    """(steps, means, deviations) of a cell's accuracies at shares of the budget."""
    found = {entry["metric"]: entry, **entry["extra"]}
    shares = {name: row for name, row in found.items() if name.startswith("at ")}
    steps = [max(FIRST, float(name[3:].rstrip("%")) / 100 * STEPS) for name in shares]
    return steps, [r["mean"] for r in shares.values()], [r["std"] or 0 for r in shares.values()]


def main() -> None:
    """One panel per row of the table, one line per column."""
    entries = [entry for entry in load(default_path()) if entry["table"] == TABLE]
    titles = load_table(TABLE).columns
    rows = sorted({entry["cell"].rpartition("/")[0] for entry in entries})
    figure, panels = plt.subplots(1, len(rows), figsize=(5.2 * len(rows), 4.2), squeeze=False)
    for panel, row in zip(panels[0], rows, strict=True):
        for entry in entries:
            place, _, column = entry["cell"].rpartition("/")
            if place == row:
                steps, means, spread = points(entry)
                panel.errorbar(steps, means, spread, label=titles[column], marker="o", capsize=3)
        panel.set_xscale("log")
        panel.set_ylim(80, 100)
        panel.set_xticks([1, 20, 100, 400], ["0", "20", "100", "400"])
        panel.minorticks_off()
        panel.set(title=row, xlabel="steps", ylabel="test accuracy, %")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    path = Path(__file__).resolve().parents[1] / "docs" / "results" / f"{TABLE}.png"
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
