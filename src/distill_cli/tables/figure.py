"""A measured table drawn: a row axis along x, one line per column and other row values."""

from collections.abc import Sequence
from pathlib import Path

from distill_cli.core.files import write_bytes
from distill_cli.errors import UserError
from distill_cli.report.plots import Curve, curves
from distill_cli.tables.measured import Measurement, Number
from distill_cli.tables.reference import published_of
from distill_cli.tables.spec import Figure, Table

Point = tuple[float, Number]
SUFFIXES = (".png", ".svg", ".pdf")


def lines_of(table: Table, found: Sequence[Measurement], figure: Figure) -> dict[str, list[Point]]:
    """Label -> (x, number) in the order of x, of the cells that have the figure's metric."""
    lines: dict[str, list[Point]] = {}
    axes = [axis for axis in table.spec.rows.axes if axis != figure.x]
    for one in found:
        for metric, number in zip(one.cell.metrics, one.numbers, strict=True):
            x = one.cell.values.get(figure.x)
            if metric.name != figure.metric or number is None or not isinstance(x, int | float):
                continue
            others = [f"{axis} {one.cell.values[axis]}" for axis in axes]
            name = ", ".join([table.columns[one.cell.column], *others])
            lines.setdefault(name, []).append((float(x), number))
    return {name: sorted(points) for name, points in lines.items()}


def draw(table: Table, found: Sequence[Measurement], path: Path) -> Path:
    """Write the figure as PNG, SVG or PDF; bars are standard deviations over seeds, open
    marks published figures. UserError where the table has no figure or nothing is measured."""
    figure = table.spec.figure
    if figure is None:
        raise UserError(f"figure={path}: table={table.name} has no figure; its file says none")
    if path.suffix not in SUFFIXES:
        raise UserError(f"figure={path}: must end in {', '.join(SUFFIXES)}")
    lines = lines_of(table, found, figure)
    if not lines:
        raise UserError(f"figure={path}: nothing of table={table.name} is measured; run it first")
    drawn = [
        Curve(name, [x for x, _ in points], [n.mean for _, n in points], [n.std for _, n in points])
        for name, points in lines.items()
    ]
    marks = [
        (float(one.cell.values[figure.x]), known.mean)
        for one in found
        if (known := published_of(table, one.cell)) and one.cell.metrics[0].name == figure.metric
    ]
    if marks:
        x, y = zip(*sorted(marks), strict=True)
        drawn.append(Curve("published", x, y, line="", hollow=True))
    picture = curves(
        table.spec.title, figure.x_label or figure.x, figure.y_label or figure.metric, drawn,
        log_x=figure.log_x, log_y=figure.log_y, kind=path.suffix[1:],
    )  # fmt: skip
    write_bytes(path, picture)
    return path
