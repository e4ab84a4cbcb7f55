"""The answer to `help KEY` for a key: what it means, takes, defaults to, and an example."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distill_cli.cli.help import overview, values, wording
from distill_cli.cli.help.entries import Entry, Page
from distill_cli.config import config_dir, group_choices
from distill_cli.errors import choice_error

LEFT = 9
MOST = 60  # characters of a wrong word that are repeated
# What each part of a file's path chooses, e.g. preset/<hardware>/<method>/<dataset>.
PARTS = {
    "method": ("method",), "search": ("search",), "hardware": ("hardware",),
    "recipe": ("method", "dataset"), "reduced": ("hardware", "method"),
    "preset": ("hardware", "method", "dataset"),
}  # fmt: skip


class Where(NamedTuple):
    """A command, one of its files, and columns of a line."""

    command: str
    page: Page
    columns: int


def entry_lines(here: Where, entry: Entry, value: str | None = None) -> Iterator[str]:
    """All about a key; UserError for a value that it never takes."""
    if value and entry.choices is not None and value.strip("'\"") not in entry.choices:
        raise choice_error(entry.key, value[:MOST], entry.choices)
    page = here.page
    typed = overview.name_of(entry, page)
    yield typed + (f" (or {entry.key})" if typed != entry.key else "")
    yield from wording.paragraph(entry.meaning, here.columns, "  ")
    yield ""
    what = [("type", wording.type_text(entry)), ("allowed", wording.allowed_text(entry))]
    what.append(("default", told_default(own_default(page, entry)) or "none; must be given"))
    what.append(("for", component_text(here, entry)))
    if page.name in overview.CONFIGS:
        for number, (setting, names) in enumerate(changes(entry)):
            text = f"{wording.value_text(setting)} with {'; '.join(names)}"
            what.append(("else" if not number else "", text))
    what.append(("more", entry.more))
    what.append(("example", example(here, entry)))
    yield from wording.two_columns([row for row in what if row[1]], here.columns, LEFT)


def own_default(page: Page, entry: Entry) -> dict[str, Any]:
    """Choice -> default of a key, {"": default} where every run has it."""
    if page.name not in overview.CONFIGS:
        tree = overview.class_defaults(page.name)
        return {"": values.at(tree, entry.key) if values.has(tree, entry.key) else "???"}
    chosen = values.choices_of(overview.CONFIGS[page.name], {})
    if entry.of_group and entry.key in chosen:
        return {"": chosen[entry.key]}
    _, _, content = values.file(config_dir() / f"{overview.CONFIGS[page.name]}.yaml")
    if values.has(content, entry.key):
        return {"": values.at(content, entry.key)}
    group = "apply" if page.section else entry.group
    found = values.in_files(group, entry.key)
    return {name: value for name, value in found.items() if not entry.of or name in entry.of}


def told_default(own: Mapping[str, Any], mark: str = "") -> str:
    """Defaults of choices as text, the commonest first. mark: around the names of choices."""
    found = values.by_frequency(own)
    if len(found) > 3 and mark:
        return "of the file"
    texts = []
    for number, (value, names) in enumerate(found):
        text = "" if value == wording.REQUIRED else wording.value_text(value)
        one_each = len(found) > 1 and all(len(others) == 1 for _, others in found)
        named = f" ({', '.join(f'{mark}{name}{mark}' for name in names)})"
        texts.append(text + (named if number or one_each else ""))
    return ", ".join(filter(None, texts))


def component_text(here: Where, entry: Entry) -> str:
    """Which choices have the key; "" where all have."""
    if here.page.name not in overview.CONFIGS:
        return f"{here.command} {' | '.join(entry.of)}" if entry.of else ""
    names = list(own_default(here.page, entry))
    if names == [""]:
        return ""
    group = "apply" if here.page.section else entry.group
    if len(names) == len(group_choices(group)):
        return f"every {group}"
    return f"{group}={' | '.join(names)}"


def changes(entry: Entry) -> list[tuple[Any, list[str]]]:
    """(value, the choices under which it is the default) beside the key's own default."""
    found = {}
    for name, value in values.where_set(entry.key).items():
        folder, *parts = name.split("/")
        if folder == entry.group:
            continue  # the component's own default
        if folder == "preset" and "evaluation" in parts:
            words = [f"hardware={parts[0]}"]
        else:
            words = [f"{group}={part}" for group, part in zip(PARTS[folder], parts, strict=True)]
        found[" ".join(words)] = value
    return values.by_value(found)


def example(here: Where, entry: Entry) -> str:
    """A command that sets the key."""
    page = here.page
    given = entry.example.replace("{key}", entry.key) or setting(page, entry)
    if not given:
        return ""
    words = [here.command, *lead(page, entry), given]
    if page.name in ("distill", "apply"):
        return " ".join(words)
    return f"{here.command} {given}" if entry.example else " ".join(words)


def lead(page: Page, entry: Entry) -> list[str]:
    """What has to stand before the key in an example."""
    if page.section:
        (choice,) = [s.choice for s in page.sections if entry in s.entries] or [""]
        word = choice.partition("=")[2] or "explain"
        coreset = ["coreset=RUN"] if word == "explain" and entry.short != "coreset" else []
        return [word, *coreset]
    if page.name != "distill":
        return [page.lead.replace("{of}", entry.of[0] if entry.of else "")] if page.lead else []
    names = list(own_default(page, entry))
    chosen = values.choices_of("config", {}).get(entry.group, "")
    groups = {group.group for group in page.groups}
    if names in ([], [""]) or chosen in names or groups & set(re.findall(r"(\w+)=", entry.example)):
        return []
    name = entry.key.split(".")[1] if entry.group == "evaluation" else names[0]
    if name in chosen:
        return []
    needs = next(group.needs for group in page.groups if group.group == entry.group)
    choice = f'"evaluation=[{name}]"' if entry.group == "evaluation" else f"{entry.group}={name}"
    return [*filter(None, [needs.get(name)]), choice]


def setting(page: Page, entry: Entry) -> str:
    """`key=value` with another value than the default where one follows from the type."""
    found = own_default(page, entry)
    value = next(iter(found.values()), None)
    if entry.of_group or value is None or value == wording.REQUIRED or "${" in str(value):
        return ""
    if entry.choices is not None:
        others = [name for name in entry.choices if name not in (wording.value_text(value), "null")]
        text = others[0] if others else wording.value_text(value)
    elif isinstance(value, bool):
        text = wording.value_text(not value)
    elif isinstance(value, int):
        text = str(2 * value or 1)
    elif isinstance(value, float):
        text = wording.value_text(value / 2 or 0.5)
    else:
        text = wording.value_text(value)
    word = f"{overview.name_of(entry, page)}={text}"
    return f'"{word}"' if set(word) & set("[]{} ") else word


def rows(inside: list[Entry], here: Where, tree: Mapping[str, Any]) -> Iterator[str]:
    """Keys with their defaults, or their values in a tree, and a line each."""
    for entry in inside:
        if values.has(tree, entry.key):
            value = overview.value_of(tree, entry)
        else:
            value = next(map(wording.value_text, own_default(here.page, entry).values()), "")
        name = f"{overview.name_of(entry, here.page)}={value}"
        yield from wording.two_columns([(name, wording.brief(entry))], here.columns, overview.LEFT)
