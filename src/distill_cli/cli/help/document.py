"""The tables of docs/configuration.md, between markers: what is between them is generated.

<!-- keys:distill/run -->           the keys of a purpose, of a file in keys/
<!-- keys:distill/method=rfad -->   the keys of one choice
<!-- keys:groups -->                the groups, in the order in which they override
<!-- end of keys -->
"""

import itertools
import re
from collections.abc import Iterable, Iterator

from distill_cli.cli.help import entries, one_key, overview, values, wording
from distill_cli.cli.help.entries import Entry, Page
from distill_cli.config import config_dir, group_choices
from distill_cli.errors import UserError

MARKED = re.compile(r"<!-- keys:([^\n]+?) -->\n.*?<!-- end of keys -->\n", re.S)


def updated(text: str) -> str:
    """The text with every table as it is now. UserError for an unknown marker."""
    if not MARKED.search(text):
        raise UserError("no marker <!-- keys:... -->")

    def table(found: re.Match[str]) -> str:
        lines = [f"<!-- keys:{found.group(1)} -->", *lines_of(found.group(1))]
        return "\n".join([*lines, "<!-- end of keys -->\n"])

    return MARKED.sub(table, text)


def marked(text: str) -> list[str]:
    """What the markers of a text ask for."""
    return MARKED.findall(text)


def lines_of(asked: str) -> Iterable[str]:
    """The lines of one table."""
    if asked == "groups":
        return group_table()
    name, _, what = asked.partition("/")
    if name not in itertools.chain(*entries.FILES.values()):
        raise UserError(f"keys:{asked}: no such table")
    found = entries.page(name)
    group, equals, choice = what.partition("=")
    sections = entries.sections_of(found, [group if equals else what])
    if not sections or (equals and choice not in group_choices(group)):
        raise UserError(f"keys:{asked}: no such table")
    return key_table(found, sections[0].entries, choice)


def group_table() -> Iterator[str]:
    """All groups, the internal ones too."""
    yield "| group | meaning | choices | default |"
    yield "|---|---|---|---|"
    groups = {group.group: group for group in entries.page("distill").groups}
    chosen = values.choices_of("config", {})
    order = [
        key.removeprefix("optional ")
        for entry in values.file(config_dir() / "config.yaml")[1]
        if isinstance(entry, dict)
        for key in entry
        if not key.startswith("override")
    ]
    for name in order:
        group = groups[name]
        meaning = "; ".join(filter(None, (group.meaning, group.more)))
        if group.internal:
            attached = "attached by itself where the file exists"
            yield row(f"`{name}/{group.internal}`", meaning, attached, "")
            continue
        choices = ", ".join(f"`{choice}`" for choice in group_choices(name))
        default = "; ".join(filter(None, (f"`{wording.value_text(chosen[name])}`", group.note)))
        yield row(f"`{name}`", meaning, choices, default)


def key_table(found: Page, listed: Iterable[Entry], choice: str) -> Iterator[str]:
    """Keys with default and meaning; neighbours that differ in their names alone share a row."""
    yield "| key | default | meaning, allowed values |"
    yield "|---|---|---|"
    rows = []
    for entry in listed:
        default = one_key.own_default(found, entry)
        if choice and choice not in default:
            continue
        if choice:
            default = {"": default[choice]}
        text = "; ".join(filter(None, (entry.meaning, wording.allowed_text(entry), entry.more)))
        rows.append((entry, one_key.told_default(default, "`"), text))
    for (default, text), same in itertools.groupby(rows, key=lambda one: one[1:]):
        yield row(names([overview.name_of(one[0], found) for one in same]), default, text)


def names(keys: list[str]) -> str:
    """`a.b`, `.c` for keys that differ in their last part; all in full otherwise."""
    first = keys[0].rpartition(".")[0]
    short = [
        f"`.{key.rpartition('.')[2]}`" if first and key.rpartition(".")[0] == first else f"`{key}`"
        for key in keys[1:]
    ]
    return ", ".join([f"`{keys[0]}`", *short])


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
