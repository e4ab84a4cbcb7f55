"""A page in five formats: terminal, markdown, csv, latex, html."""

import csv
import io
from collections.abc import Callable

from distill_cli.errors import choice_error
from distill_cli.tables.show import Page
from distill_cli.version import __version__

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "−": "$-$", "–": "--",
}  # fmt: skip


def write(page: Page, style: str) -> str:
    """The page as text, ending in a newline. UserError for an unknown format."""
    if style not in FORMATS:
        raise choice_error("format", style, FORMATS)
    return FORMATS[style](page).rstrip("\n") + "\n"


def aligned(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> list[str]:
    """Columns padded to one width each; the first to the left, others to the right."""
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        lines.append("  ".join(cells).rstrip())
    return lines


def terminal(page: Page) -> str:
    """Aligned plain text, then notes, then one command per cell."""
    commands = [f"  {name}: {command}" for name, command in page.commands]
    about = [page.about] if page.about else []
    lines = [page.title, *about, "", *aligned(page.head, page.rows), "", *page.notes]
    return "\n".join([*lines, "", "Commands:", *commands])


def markdown(page: Page) -> str:
    """A pipe table, notes as a list, commands as a code block."""
    rows = [" | ".join(text.replace("|", "\\|") for text in row) for row in page.rows]
    rule = " | ".join(["---", *["---:"] * (len(page.head) - 1)])
    lines = [f"**{page.title}**", ""] + ([page.about, ""] if page.about else [])
    lines += [f"| {text} |" for text in (" | ".join(page.head), rule, *rows)]
    lines += ["", *(f"* {note}" for note in page.notes), "", "```"]
    return "\n".join([*lines, *(command for _, command in page.commands), "```"])


def comma_separated(page: Page) -> str:
    """One line per cell with plain numbers in full precision."""
    out = io.StringIO()
    keys = list(dict.fromkeys(key for record in page.records for key in record))
    writer = csv.DictWriter(out, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(page.records)
    return out.getvalue()


def latex(page: Page) -> str:
    """A tabular of the booktabs package, with notes as comments."""

    def safe(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    body = [" & ".join(map(safe, row)) + r" \\" for row in page.rows]
    head = " & ".join(map(safe, page.head)) + r" \\"
    notes = [f"% {note}" for note in (page.title, *page.notes)]
    notes += [f"% {name}: {command}" for name, command in page.commands]
    begin = r"\begin{tabular}{l" + "r" * (len(page.head) - 1) + "}"
    lines = [*notes, begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"])


def web(page: Page) -> str:
    """A page of its own that needs no other file."""
    from distill_cli.report.templating import render  # brings jinja2; other formats do without

    return render(
        "table.html", title=page.title, lead=page.about, version=__version__, head=page.head,
        rows=page.rows, notes=page.notes, commands=page.commands,
    )  # fmt: skip


FORMATS: dict[str, Callable[[Page], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "html": web,
}
