"""The frame of every page: one HTML file that loads nothing from elsewhere."""

from html import escape
from importlib.resources import files


def packaged(name: str) -> str:
    """A text file of this package, e.g. report.css."""
    return files("distill_cli.report").joinpath(name).read_text(encoding="utf-8")


def document(
    title: str, lead: str, main: str, footer: str, *, version: str, meta: str = "",
    style: str = "", header: str = "", after: str = "", script: str = "",
) -> str:  # fmt: skip
    """The page. title, lead, version: text; all others are HTML.

    main: its sections; meta: in the head; style: CSS behind report.css; header: below the lead;
    after: between main and footer; script: JavaScript.
    """
    code = f"<script>\n{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{meta}<title>{escape(title)}</title>\n<style>\n{packaged('report.css')}{style}</style>\n"
        f"</head>\n<body>\n<header><h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead)}</p>{header}</header>\n<main>\n{main}</main>\n{after}'
        f"<footer>distill_cli {escape(version)}. {footer}</footer>\n{code}</body>\n</html>\n"
    )
