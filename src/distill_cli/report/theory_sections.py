"""Which figures and tables each study of the theory bench gets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from distill_cli.report import theory_figures as draw
from distill_cli.report import words
from distill_cli.theory.compare import chance
from distill_cli.theory.study import KEYS, Cell, select

MSE = "relative MSE"
COLUMNS = {
    "teacher": "mse_teacher", "lazy": "mse_lazy", "D1 + ridge": "mse_d1_ridge",
    "D1 + D2": "mse_d1_d2", "new init": "mse_new_init", "new init, D2": "mse_new_init_d2",
    "new init, span": "mse_new_init_span", "real points": "mse_equal_memory_real",
    "overlap": "overlap", "energy": "energy", "numbers": "floats", "bytes": "bytes",
}  # fmt: skip


class Figure(NamedTuple):
    """A picture: file name without ending, caption, PNG bytes."""

    name: str
    caption: str
    png: bytes


def figures(study: Mapping[str, Any], fits: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The pictures of one study, by its name; studies of the user's own get none."""
    cells, name = study["cells"], study["study"]
    make = {
        "m1_d": first_layer, "m1_r": first_layer, "m2": second_layer, "samples": samples,
    }.get(name)  # fmt: skip
    found = make(cells, study["group"], name) if make else []
    found += alignment(cells)
    if any(fit["slope"] is not None for fit in fits):
        caption = "Memory needed; log-log slopes with 95 % bootstrap intervals over seeds"
        found.append(Figure(f"{name}_slopes", caption, draw.slope_figure(fits)))
    return found


def first_layer(cells: Sequence[Cell], group: str, name: str) -> list[Figure]:
    """Error and overlap over M1, a line per d or r, per variant; memory curves."""
    cells, found = list(cells), []
    for variant in ("multi_step", "one_step"):
        chosen = [c for c in select(cells, variant=variant) if c["subset"] is None]
        if not chosen:
            continue
        axes = ("first-layer points M1", MSE)
        flat = [("mse_teacher", "teacher: real data")]
        picture = draw.curves(
            chosen, "m1", "mse_d1_ridge", group, axes, f"Error after {variant}", flat
        )
        found.append(Figure(f"{name}_error_{variant}", f"Error against M1, {variant}", picture))
        axes = ("first-layer points M1", "overlap with the true subspace")
        picture = draw.curves(
            chosen, "m1", "overlap", group, axes, f"Overlap after {variant}", log_y=False
        )
        found.append(Figure(f"{name}_overlap_{variant}", f"Overlap against M1, {variant}", picture))
    if any(c["subset"] for c in cells):
        widest = sorted({c["d"] for c in cells if c["subset"]})[-1]
        chosen = select(cells, d=widest, variant="multi_step")
        picture = draw.memory(
            [c for c in chosen if c["subset"] is None]
            + [_only(c, "mse_equal_memory_real") for c in chosen if c["subset"]],
            {
                "mse_d1_ridge": "distilled first layer (multi_step)",
                "mse_equal_memory_real": "real points, whole procedure",
            },
            f"Error against memory of the first layer, d = {widest}",
        )
        caption = "Memory of the first layer (readout on real points) beside real points for both"
        found.append(Figure(f"{name}_memory", caption, picture))
    return found


def second_layer(cells: Sequence[Cell], group: str, name: str) -> list[Figure]:
    """Error over M2/L, a line per width; memory curves with real subsets of the same size."""
    chosen = [c for c in select(cells, d=30, r=2) if c["readout_steps"] is None]
    picture = draw.curves(
        chosen, "m2_per_L", "mse_d1_d2", group, ("M2 / L", MSE),
        "Error of the student trained on distilled data alone",
        [("mse_d1_ridge", "readout on real points")],
    )  # fmt: skip
    one = [c for c in chosen if c["L"] == 256]
    lines = {
        "mse_d1_d2": "distilled data (D1 and labels)",
        "mse_equal_memory_real": "as many numbers of real points",
    }
    title = "Error against stored numbers, d = 30, r = 2, L = 256"
    return [
        Figure(f"{name}_error", "Error against the number of second-layer labels", picture),
        Figure(
            f"{name}_memory", "Memory and accuracy, second layer", draw.memory(one, lines, title)
        ),
    ]


def samples(cells: Sequence[Cell], group: str, name: str) -> list[Figure]:
    """Overlap and error over n/d^2."""
    axes = ("real samples n / d²", "overlap with the true subspace")
    overlap = draw.curves(
        cells, "n_per_d2", "overlap", group, axes, "Overlap", log_y=False, split="variant"
    )
    error = draw.curves(
        cells, "n_per_d2", "mse_d1_ridge", group, (axes[0], MSE), "Error", split="variant"
    )
    return [
        Figure(f"{name}_overlap", "Overlap against real samples", overlap),
        Figure(f"{name}_error", "Error against real samples", error),
    ]


def _only(cell: Cell, metric: str) -> Cell:
    """The cell with this metric and its memory alone."""
    kept = {key: cell["metrics"][key] for key in (metric, "floats")}
    return cell | {"metrics": kept}


def table(study: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(head, rows): the keys that vary, then mean ± deviation of each metric that was measured."""
    cells = study["cells"]
    keys = [k for k in KEYS if len({str(c.get(k)) for c in cells}) > 1]
    shown = {n: m for n, m in COLUMNS.items() if any(m in c["metrics"] for c in cells)}
    rows = []
    for cell in cells:
        row = [words.NONE if cell[k] is None else f"{cell[k]}" for k in keys]
        rows.append(row + [figure(cell["metrics"].get(metric)) for metric in shown.values()])
    return [*keys, *shown], rows


def figure(found: Mapping[str, Any] | None) -> str:
    """Mean and deviation in the format of the tables."""
    if not found:
        return words.NONE
    if float(found["mean"]).is_integer() and found["mean"] >= 2:
        return f"{found['mean']:.0f}"
    tail = "" if not found["std"] else f" ± {found['std']:.4f}"
    return f"{found['mean']:.4f}{tail}"


def comparison(study: Mapping[str, Any]) -> tuple[list[str], list[list[str]], list[bool]]:
    """(head, rows, outside): measured figures against the reference's and their bands."""
    rows, marks = [], []
    for item in study["comparison"]:
        if item["measured"] is None:
            continue
        where = ", ".join(f"{k} = {v}" for k, v in item["at"].items() if v is not None)
        limit = f"{item['side']} {item['limit']:.4g}"
        verdict = "within" if item["within"] else f"outside{chance(item)}"
        figures_ = [f"{item['expected']:.4g}", limit, f"{item['measured']:.4f}", verdict]
        rows.append([f"{item['metric']}: {where}", *figures_])
        marks.append(not item["within"])
    return ["figure", "reference", "band", "measured (mean)", ""], rows, marks


def alignment(cells: Sequence[Cell]) -> list[Figure]:
    """Distilled inputs of a task's seed 0 in the basis of its true subspace, control by control."""
    panels = []
    cells = [cell for cell in cells if "alignment" in cell and cell["link"] in ("mix", "cubic")]
    most = max((cell["m1"] for cell in cells), default=0)
    for cell in cells:
        if cell["m1"] == most:
            plain = cell["bias"] == "normal" and cell["row_norm"] == 1.0
            name = cell["link"] if cell["control"] == "none" else cell["control"]
            if plain and name not in [known for known, *_ in panels]:
                found = cell["alignment"]
                panels.append((name, np.array(found["inside"]), np.array(found["outside"])))
    if not panels:
        return []
    title = "Distilled inputs in the basis of the true subspace (each panel scaled to its largest)"
    caption = "Alignment: points inside the subspace (above), norms inside and outside (below)"
    return [Figure("alignment", caption, draw.alignment(panels, title))]
