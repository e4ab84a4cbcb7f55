"""How much memory is needed, and how that grows: log-log slopes with bootstrap intervals."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from distill_cli.theory.study import Cell, select

DRAWS = 1000
EXCESS = 0.02  # over the teacher: what "enough" first-layer points may cost
Curve = list[tuple[float, np.ndarray]]  # x, and the excess of each seed


def needed(xs: Sequence[float], excess: Sequence[float], limit: float) -> float:
    """Smallest x from which on the excess stays at or below the limit; between two points by
    interpolation of log excess over log x. nan where the last point is still above."""
    if excess[-1] > limit:
        return math.nan
    last = max((i for i, e in enumerate(excess) if e > limit), default=-1)
    if last < 0:
        return float(xs[0])
    a, b = xs[last], xs[last + 1]
    # An excess at or below 0 has no logarithm; a tenth of the limit stands for it.
    high, low = math.log(excess[last]), math.log(max(excess[last + 1], limit / 10))
    share = (high - math.log(limit)) / (high - low)
    return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))


def slope(xs: Iterable[float], ys: Iterable[float]) -> float:
    """Least-squares slope of log y over log x, over finite positive pairs; nan below two."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y) and y > 0]
    if len({x for x, _ in pairs}) < 2:
        return math.nan
    x, y = np.log(np.array(pairs)).T
    return float(np.polyfit(x, y, 1)[0])


def curves(
    cells: Sequence[Cell], group: str, x: str, metric: str, against: str
) -> dict[float, Curve]:
    """Per value of `group`: points (x, metric - against of each seed), sorted by x."""
    found: dict[float, Curve] = {}
    for cell in sorted(cells, key=lambda c: c[x]):
        metrics = cell["metrics"]
        if metric in metrics and against in metrics:
            gap = np.array(metrics[metric]["values"]) - np.array(metrics[against]["values"])
            found.setdefault(cell[group], []).append((cell[x], gap))
    return dict(sorted(found.items()))


def fitted(found: Mapping[float, Curve], limit: Callable[[float], float]) -> dict[str, Any]:
    """Thresholds per group and their slope, with the 2.5 and 97.5 % quantiles over DRAWS draws of
    the seeds with replacement (the same seeds for every group: they share nothing but their
    number). limit maps a group to the excess that counts as enough."""
    seeds = len(next(iter(found.values()))[0][1])
    rng = np.random.default_rng(0)
    draws = [np.arange(seeds), *rng.integers(0, seeds, (DRAWS, seeds))]
    rows = []
    for chosen in draws:
        rows.append(
            [
                needed([x for x, _ in c], [float(gap[chosen].mean()) for _, gap in c], limit(g))
                for g, c in found.items()
            ]
        )
    groups, table = list(found), np.array(rows)
    slopes = np.array([slope(groups, row) for row in table])
    known = slopes[1:][np.isfinite(slopes[1:])]
    interval = [float(q) for q in np.quantile(known, [0.025, 0.975])] if len(known) else None
    return {
        "groups": groups,
        "needed": [None if math.isnan(v) else float(v) for v in table[0]],
        "grid": [coarse(c, limit(g)) for g, c in found.items()],
        "slope": None if math.isnan(slopes[0]) else float(slopes[0]),
        "interval": interval,
        "n": seeds,
        "draws": DRAWS,
    }


def coarse(curve: Curve, limit: float) -> float | None:
    """Smallest measured x from which on the mean excess stays within the limit."""
    found = None
    for x, gap in reversed(curve):
        if gap.mean() > limit:
            break
        found = x
    return found


def study_slopes(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fits of a study: M1 against d or r per variant, or M2 against L."""
    cells = study["cells"]
    if study["study"] in ("m1_d", "m1_r"):
        group, found = study["group"], []
        for variant in ("multi_step", "one_step"):
            chosen = [c for c in select(cells, variant=variant) if c["subset"] is None]
            lines = curves(chosen, group, "m1", "mse_d1_ridge", "mse_teacher")
            if len(lines) > 1:
                fit = fitted(lines, lambda _: EXCESS)
                what = f"M1 against {group}, {variant}"
                rule = f"excess over the teacher at most {EXCESS}"
                found.append({"what": what, "rule": rule} | fit)
        return found
    if study["study"] == "m2":
        chosen = [c for c in select(cells, d=30, r=2) if c["readout_steps"] is None]
        lines = curves(chosen, "L", "m2", "mse_d1_d2", "mse_d1_ridge")
        level = {
            g: float(np.mean([select(chosen, L=g)[0]["metrics"]["mse_d1_ridge"]["mean"]]))
            for g in lines
        }
        fit = fitted(lines, lambda g: 0.1 * level[g] + 0.001)
        rule = "excess over a readout on real points at most 10 % of its error + 0.001"
        return [{"what": "M2 against L", "rule": rule} | fit]
    return []
