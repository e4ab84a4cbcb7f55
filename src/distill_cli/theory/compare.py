"""A study's figures against the reference's. Imports no jax."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_cli.core.stats import mean_std
from distill_cli.theory.study import Cell, Study, select

REFERENCE_SEEDS = 3  # behind most of the reference's figures


def compare(study: Study, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Measured means against the reference's figures and its bands.

    An error may be 50 % above its figure plus 0.01, an overlap 0.01 below; bound: at_least turns an
    error's figure into the least that a control must reach. One entry per figure: what, where,
    expected, limit, measured (null where the cell was not run), within. Where it is outside, also
    what chance explains, with `few` seeds behind the figure (`seeds` of its table, 3): share_within
    of all choices of so many seeds, and the distance to the figure in standard errors of the
    difference of both means, s sqrt(1/n + 1/few), s the standard deviation over the seeds here.
    """
    found = []
    for table in study.expected:
        for row, values in table["values"].items():
            columns = values if isinstance(values, dict) else {None: values}
            for column, figure in columns.items():
                at = dict(table.get("at", {})) | {table["rows"]: row}
                if column is not None:
                    at[table["columns"]] = column
                metrics = [c["metrics"].get(table["metric"]) for c in select(cells, **at)]
                hits = [metric["values"] for metric in metrics if metric is not None]
                found.append(judged(table, at, figure, hits[0] if hits else []))
    return found


def judged(
    table: Mapping[str, Any], at: dict[str, Any], figure: float, values: Sequence[float]
) -> dict[str, Any]:
    """One comparison; values: of the seeds, none where the cell was not run."""
    least = table.get("bound") == "at_least"
    low = least or table["metric"] == "overlap"
    limit = figure if least else figure - 0.01 if low else 1.5 * figure + 0.01

    def inside(chosen: Sequence[float]) -> bool:
        return bool(np.mean(chosen) >= limit if low else np.mean(chosen) <= limit)

    found = {
        "metric": table["metric"], "at": at, "expected": figure,
        "limit": round(limit, 6), "side": "at least" if low else "at most",
        "measured": float(np.mean(values)) if values else None,
        "within": inside(values) if values else None,
    }  # fmt: skip
    few = table.get("seeds", REFERENCE_SEEDS)
    if found["within"] is False and len(values) > few and np.ptp(values) > 0:
        share = np.mean([inside(chosen) for chosen in itertools.combinations(values, few)])
        mean, std, n = mean_std(values)
        away = abs(mean - figure) / ((std or 0) * math.sqrt(1 / n + 1 / few))
        found |= {"few": few, "share_within": float(share), "standard_errors": float(away)}
    return found


def chance(item: Mapping[str, Any]) -> str:
    """What chance explains of a figure that is outside, in words."""
    if "share_within" not in item:
        return ""
    few = "single seeds" if item["few"] == 1 else f"choices of {item['few']} seeds"
    away = f"{item['standard_errors']:.1f} standard errors from it"
    return f"; within for {item['share_within']:.0%} of {few}, {away}"
