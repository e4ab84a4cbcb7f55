"""HTML from the templates in report/templates/ (jinja2); values are escaped unless they are HTML.

A template decides what stands where, Python what it says: templates take plain values and typed
results, and write numbers with the filters below (words.py). A page loads nothing from elsewhere;
its CSS and JavaScript are the files beside the templates.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from distill_cli.report import words

__all__ = ["Markup", "macro", "pairs", "render", "table"]


def render(template: str, **values: Any) -> Markup:
    """The HTML of a template, e.g. "run.html". A value that is missing raises UndefinedError."""
    return Markup(environment().get_template(template).render(values))


def macro(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template as a function that returns HTML."""
    return getattr(environment().get_template(template).module, name)


@cache
def environment() -> Environment:
    """Templates of this package with the number formats of words.py as filters."""
    made = Environment(
        loader=PackageLoader("distill_cli.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "count": words.count, "plural": words.plural, "percent": words.percent,
        "known": known, "px": lambda value: f"{value:.1f}",
    }  # fmt: skip
    made.globals |= {"packaged": packaged}
    return made


def packaged(name: str) -> Markup:
    """A text file of this package, e.g. report.css, as it is."""
    return Markup(files("distill_cli.report").joinpath(name).read_text(encoding="utf-8"))


def known(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(name, value) rows that have a value."""
    return [(name, value) for name, value in rows if value and value != words.NONE]


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[bool] = (), style: str = ""
) -> Markup:
    """A table that scrolls sideways on narrow screens; the first column names the row.

    marks highlights rows; style is a CSS class of the table.
    """
    return macro("parts.html", "table")(head, rows, marks, style)


def pairs(rows: Sequence[tuple[str, str]]) -> Markup:
    """Names and values in two columns; rows without a value are left out."""
    return macro("parts.html", "pairs")(rows)
