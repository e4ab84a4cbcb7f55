"""The page of --help: what a command does and needs, examples, choices, keys by purpose."""

import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.cli.help import entries, values, wording
from distill_cli.cli.help.entries import Entry, Page
from distill_cli.config import group_choices
from distill_cli.version import __version__

# Where the defaults of a file of keys are: a configuration, or a dataclass.
CONFIGS = {
    "distill": "config", "evaluate": "evaluate", "export": "export", "apply": "apply",
    "theory": "theory", "subspace": "theory_subspace",
}  # fmt: skip
CLASSES = {
    "report": ("distill_cli.tasks.report", "Config"),
    "table": ("distill_cli.cli.table_options", "Options"),
}
LEFT = 24  # columns of `key=value`
SHOWN_OF_INHERITED = {"evaluate": ("evaluation",)}


def overview(command: str, words: Sequence[str] = ()) -> str:
    """The text of `<command> <words> --help`. UserError for a choice that there is not."""
    columns = wording.width()
    names = entries.FILES[command]
    first = words[0] if words else ""
    found = entries.page(first if first in names else names[0])
    tree, choices, attached = state(found, words)
    lines = wording.paragraph(f"{command} {__version__}. {found.about}", columns)
    lines += ["", "Usage"]
    usage = [(text, "") for text in found.usage]
    usage.append((f"{command} help KEY", "everything about one key, group or choice"))
    lines += wording.two_columns(usage, columns, 34)
    lines += wording.paragraph(f"Needs {found.requires}.", columns, "  ")
    if found.also:
        lines += wording.paragraph(f"{found.also}.", columns, "  ")
    if found.words:
        lines += ["", "First word"]
        lines += wording.two_columns(found.words.items(), columns, 12)
    lines += ["", "Examples"]
    for typed, meaning in found.examples:
        lines += wording.two_columns([(typed, meaning)], columns, 46)
    if found.options:
        lines += ["", "Options"]
        lines += wording.two_columns(found.options, columns, 16)
    groups = [group for group in found.groups if not group.internal and not group.words]
    if groups:
        lines += ["", "Choices, the chosen ones first"]
        for group in groups:
            lines += group_lines(group, choices[group.group], columns)
    lines += key_lines(command, found, first, values.Composed(tree, choices, attached), columns)
    lines += ["", f"{command} help KEY tells more, e.g. {command} help {key_to_try(found)}"]
    return "\n".join(lines) + "\n"


def key_to_try(found: Page) -> str:
    """A key for the last line."""
    return "method.ridge" if found.name == "distill" else next(iter(found.entries)).key


def state(found: Page, words: Iterable[str]) -> values.Composed:
    """Values and choices under the typed words; words that set no known key change nothing."""
    if found.name not in CONFIGS:
        return values.Composed(class_defaults(found.name), {}, [])
    typed: dict[str, values.Choice] = {}
    given: dict[str, Any] = {}
    known = {entry.key: entry for one in with_inherited(found) for entry in one.entries}
    groups = {group.group: group for one in with_inherited(found) for group in one.groups}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals and key in found.words and "apply" in groups:
            typed["apply"] = key
        elif key in groups and equals:
            names = text.strip("[]'\"").split(",")
            typed[key] = names if groups[key].list else text
        elif key in known and equals and not known[key].of_group:
            given |= read(word, key)
    return values.composed(CONFIGS[found.name], typed, given)


def read(word: str, key: str) -> dict[str, Any]:
    """{key: the value in key=value}; {} for what Hydra cannot read, and for several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        one = OverridesParser.create().parse_override(word)
    except HydraException:
        return {}
    return {} if one.is_sweep_override() else {key: one.value()}


def class_defaults(name: str) -> dict[str, Any]:
    """Defaults of a command that has no configuration file."""
    module, attribute = CLASSES[name]
    fields = dataclasses.fields(getattr(importlib.import_module(module), attribute))
    missing = (dataclasses.MISSING, "")
    defaults = ((f.name, wording.REQUIRED if f.default in missing else f.default) for f in fields)
    return {name: str(value) if isinstance(value, Path) else value for name, value in defaults}


def with_inherited(found: Page) -> list[Page]:
    """The file and the one whose keys it takes besides."""
    return [found, *([entries.page(found.inherits)] if found.inherits else [])]


def group_lines(group: entries.Group, chosen: values.Choice, columns: int) -> Iterator[str]:
    """A group with its choices, the chosen ones first."""
    first = [chosen] if isinstance(chosen, str) else list(chosen)
    names = [*first, *(name for name in group_choices(group.group) if name not in first)]
    yield from wording.two_columns([(group.group, group.meaning)], columns, LEFT)
    yield from wording.paragraph(", ".join(names), columns, " " * (LEFT + 4))


def key_lines(
    command: str, found: Page, word: str, shown: values.Composed, columns: int
) -> Iterator[str]:
    """Sections of keys with their values."""
    tree, choices, attached = shown
    sections = [section for section in found.sections if not section.hidden]
    sections = [s for s in sections if not s.choice or s.choice == f"apply={choices.get('apply')}"]
    inherited = SHOWN_OF_INHERITED.get(found.name, ())
    if inherited:
        sections += entries.sections_of(entries.page(found.inherits), inherited)
    yield ""
    with_files = f" ({', '.join(attached)})" if attached else ""
    yield from wording.paragraph(f"Keys with their values here{with_files}", columns)
    for section in sections:
        rows = [
            (f"{name_of(entry, found)}={value_of(tree, entry)}", wording.brief(entry))
            for entry in section.entries
            if applies(entry, choices, word if word in found.words else "")
            and (values.has(tree, entry.key) or found.name not in CONFIGS)
            and not entry.of_group
        ]
        if rows:
            yield from ["", section.title]
            yield from wording.two_columns(rows, columns, LEFT)
    if found.inherits:
        yield ""
        yield from wording.paragraph(
            f"All other keys and choices are those of {found.inherits}: {found.inherits} --help",
            columns,
        )


def name_of(entry: Entry, found: Page) -> str:
    """A key as it is typed most shortly."""
    prefix = f"{found.section}." if found.section else ""
    return entry.short or (entry.key.removeprefix(prefix) if prefix else entry.key)


def value_of(tree: Mapping[str, Any], entry: Entry) -> str:
    """The value of a key as it is typed; ... for one that must be given."""
    value = values.at(tree, entry.key) if values.has(tree, entry.key) else wording.REQUIRED
    return "..." if value == wording.REQUIRED else wording.value_text(value)


def applies(entry: Entry, choices: Mapping[str, values.Choice], word: str = "") -> bool:
    """Whether an entry is about what is chosen, or about the command's first word."""
    if not entry.of:
        return True
    if entry.group not in choices:
        return not word or word in entry.of
    return choices[entry.group] in entry.of
