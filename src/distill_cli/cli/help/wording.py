"""Values and meanings as text for the terminal and for Markdown. Imports no jax."""

import re
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from distill_cli.cli.help.entries import Entry
from distill_cli.errors import shown

NARROWEST, WIDEST = 80, 100
REQUIRED = "???"  # OmegaConf's mark of a value that must be given
# Interpolations in the files, in words. What depends on ipc is a table of ipc: value.
BY_IPC = re.compile(r"\$\{by_ipc:\$\{ipc\},\{(.*)\}\}")
OF_DATASET = re.compile(r"\$\{(?:oc\.select|is_given):.*dataset\..*\}")
OTHER_KEY = re.compile(r"\$\{([\w.]+)\}")


def width() -> int:
    """Columns of a line: those of the terminal, between 80 and 100."""
    return min(max(shutil.get_terminal_size((NARROWEST, 24)).columns, NARROWEST), WIDEST)


def value_text(value: Any) -> str:
    """A value as it is typed, an interpolation in words; 1e-06 as 1e-6, 512.0 as 512."""
    if isinstance(value, float):
        return re.sub(r"e([+-])0*", r"e\1", repr(value)).replace("e+", "e").removesuffix(".0")
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{value_text(item)}' for key, item in value.items())}}}"
    text = shown(value)
    if found := BY_IPC.fullmatch(text):
        return f"by ipc ({found.group(1)})"
    if OF_DATASET.fullmatch(text):
        return "of the dataset"
    if found := OTHER_KEY.fullmatch(text):
        return found.group(1)
    return text


def choices_text(choices: dict[str, str]) -> str:
    """`a`: its meaning; `b`, `c`, those without a meaning together."""
    parts: list[str] = []
    open_list = False
    for name, meaning in choices.items():
        if meaning or not open_list:
            parts.append(f"`{name}`" + (f": {meaning}" if meaning else ""))
        else:
            parts[-1] += f", `{name}`"
        open_list = not meaning
    return "; ".join(parts)


def allowed_text(entry: Entry) -> str:
    """What is allowed, "" where the type says it."""
    return entry.allowed if entry.choices is None else choices_text(entry.choices)


def brief(entry: Entry) -> str:
    """Meaning and allowed values in a line; what each choice means is left to `help KEY`."""
    allowed = entry.allowed if entry.choices is None else " | ".join(entry.choices)
    return "; ".join(filter(None, (entry.meaning, allowed)))


def type_text(entry: Entry) -> str:
    """What a value is."""
    if entry.choices is None:
        return entry.type
    return "one name, or null" if "null" in entry.choices else "one name"


def plain(text: str) -> str:
    """Markdown as plain text: a link to a page of docs/ becomes its file."""

    def link(found: re.Match[str]) -> str:
        label, target = found.group(1), found.group(2).partition("#")[0]
        return f"docs/{target}" if label == target else f"{label} (docs/{target})"

    return re.sub(r"\[([^\[\]]*)\]\(([^)]*)\)", link, text).replace("`", "")


def paragraph(text: str, columns: int, indent: str = "", head: str | None = None) -> list[str]:
    """Lines of at most so many columns; the first one begins with `head`, else as the others."""
    return textwrap.wrap(
        plain(text), columns, initial_indent=indent if head is None else head,
        subsequent_indent=indent, break_on_hyphens=False,
    )  # fmt: skip


def two_columns(
    rows: Iterable[tuple[str, str]], columns: int, left: int, indent: str = "  "
) -> list[str]:
    """Lines `left  right`, the right text wrapped. Where the left one is too long the right one
    begins behind it; rows with the same right text show it once, at the last of them."""
    rows, lines = list(rows), []
    margin = " " * (len(indent) + left + 2)
    for at, (name, text) in enumerate(rows):
        again = at + 1 < len(rows) and text and rows[at + 1][1] == text
        if len(indent) + len(name) > columns:  # a long list
            heads = paragraph(name if " " in name else name.replace(",", ", "), columns, indent)
            lines += heads if again else [*heads, *paragraph(text, columns, margin)]
            continue
        head = f"{indent}{name:<{left}}  "
        if again:
            lines.append(head.rstrip())
        elif len(head) > max(columns // 2, len(margin)):
            lines += [head.rstrip(), *paragraph(text, columns, margin)]
        else:
            lines += paragraph(text, columns, margin, head) or [head.rstrip()]
    return lines
