"""The answer to `help KEY`: all about one key, group, choice, or section of keys."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distill_cli.cli.help import entries, overview, values, wording
from distill_cli.cli.help.entries import Entry, Group, Page
from distill_cli.config import config_dir, group_choices
from distill_cli.errors import UserError, choice_error

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


def answer(command: str, word: str) -> str:
    """All about a word behind `help`. UserError for one that names nothing, with near names."""
    columns = wording.width()
    key, equals, value = word.lstrip("+~").partition("=")
    found: list[list[str]] = []
    for page in entries.pages(command):
        here = Where(owner(command, page), page, columns)
        groups = {group.group: group for group in page.groups}
        named = [
            entry
            for entry in page.entries
            if key
            and key in (entry.key, entry.short, overview.name_of(entry, page))
            and not (entry.of_group and key in groups)
        ]
        if equals and key in groups:
            found += [list(choice_lines(here, groups[key], one)) for one in names_in(value)]
            continue
        found += [list(entry_lines(here, entry, value if equals else None)) for entry in named]
        if key in groups:
            found.append(list(group_lines(here, groups[key])))
    found = found or ([] if equals else other_matches(command, key, columns))
    if not found:
        raise unknown(command, key)
    return "\n\n".join("\n".join(lines) for lines in found) + "\n"


def other_matches(command: str, word: str, columns: int) -> list[list[str]]:
    """A choice of a group, the first part of several keys, or a first word of the command."""
    found = []
    for page in entries.pages(command):
        here = Where(owner(command, page), page, columns)
        for group in page.groups:
            if not group.internal and word in group_choices(group.group):
                found.append(list(choice_lines(here, group, word)))
        inside = [entry for entry in page.entries if entry.key.startswith(f"{word}.")]
        if inside and word not in page.words:
            found.append([f"{word}.KEY", *rows(inside, here, {})])
    if not found and word in entries.pages(command)[0].words:
        found.append(overview.overview(command, [word]).rstrip().split("\n"))
    return found


def owner(command: str, page: Page) -> str:
    """The command that an example shows: the one whose keys they are."""
    return command if page.name in entries.FILES[command] else page.name


def names_in(value: str) -> list[str]:
    """[a,b] or a."""
    return [name.strip() for name in value.strip("[]'\"").split(",")]


def unknown(command: str, word: str) -> UserError:
    """The error for a word that names nothing."""
    pages = entries.pages(command)
    own = own_names(command) + [entry.key for page in pages for entry in page.entries]
    groups = [group.group for page in pages for group in page.groups if not group.internal]
    names = list(dict.fromkeys([*own, *groups, *pages[0].words]))
    names += [name for group in groups for name in group_choices(group) if name not in names]
    shown = word if len(word) <= MOST else f"{word[:MOST]}..."
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    near = [name for name in names if word and name.endswith(f".{word}")]
    near += difflib.get_close_matches(word[:MOST], names, n=3)
    # A wrong last part: names beside it.
    tails = {name.rpartition(".")[2]: name for name in names}
    near += [tails[tail] for tail in difflib.get_close_matches(word[:MOST], tails, n=2)]
    near = list(dict.fromkeys(near))[:6]
    others = [other for other in entries.FILES if other != command and word in own_names(other)]
    if others:
        hint = f"; or did you mean {' or '.join(near)}?" if near else ""
        return UserError(
            f"{shown}: no key of {command}; {others[0]} help {shown} explains it{hint}"
        )
    hint = f"did you mean {' or '.join(near)}?" if near else f"{command} --help lists all keys"
    return UserError(f"{shown}: no key, group or choice; {hint}")


def own_names(command: str) -> list[str]:
    """Keys of a command as they are typed, without those that it takes from another."""
    pages = [page for page in entries.pages(command) if page.name in entries.FILES[command]]
    return [overview.name_of(entry, page) for page in pages for entry in page.entries]


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


def header(group: str, name: str) -> str:
    """The comment at the top of a choice's file."""
    lines = []
    for line in (config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def group_lines(here: Where, group: Group) -> Iterator[str]:
    """All about a group: its choices in a line each, and its keys."""
    if group.internal:
        yield f"{group.group}/{group.internal}"
        yield from wording.paragraph(group.meaning, here.columns, "  ")
        yield from wording.paragraph(
            "Attached by itself where the file exists; not meant to be typed.", here.columns, "  "
        )
        return
    yield group.group
    yield from wording.paragraph(group.meaning, here.columns, "  ")
    if group.more:
        yield from wording.paragraph(group.more, here.columns, "  ")
    yield ""
    default = values.choices_of(overview.CONFIGS[here.page.name], {})[group.group]
    text = wording.value_text(default) + (f"; {group.note}" if group.note else "")
    told = [("default", text), ("example", f"{here.command} {group.example}")]
    yield from wording.two_columns(told, here.columns, LEFT)
    yield ""
    names = group_choices(group.group)
    sentences = [(name, header(group.group, name).partition(". ")[0]) for name in names]
    yield from wording.two_columns(sentences, here.columns, 18)
    keys = [entry for entry in here.page.entries if entry.key.startswith(f"{group.group}.")]
    keys = [entry for entry in keys if not entry.of_group]
    if keys:
        yield ""
        names = list(dict.fromkeys(overview.name_of(entry, here.page) for entry in keys))
        yield from wording.paragraph(f"Keys: {', '.join(names)}", here.columns)


def choice_lines(here: Where, group: Group, name: str) -> Iterator[str]:
    """All about one choice: what it is, what else it sets, its keys. UserError for no choice."""
    if name not in group_choices(group.group):
        raise choice_error(group.group, name[:MOST], group_choices(group.group))
    yield f"{group.group}={name}"
    yield from wording.paragraph(header(group.group, name), here.columns, "  ")
    line, defaults, content = values.file(config_dir() / group.group / f"{name}.yaml")
    known = {entry.key for page in entries.pages(here.command) for entry in page.entries}
    other = [
        f"{key.removeprefix('override /')}={wording.value_text(value)}"
        for item in defaults
        if isinstance(item, dict)
        for key, value in item.items()
        if key.startswith("override /") and "hydra" not in key
    ]
    prefix = f"{group.group}."
    if line == "_global_":
        other += [
            f"{key}={wording.value_text(values.at(content, key))}"
            for key in values.leaves(content, known)
            if not key.startswith(prefix) and key != group.group
        ]
    told = [("sets", ", ".join(other))]
    if group.group in ("method", "dataset"):
        pairs = sorted((config_dir() / "recipe").glob("*/*.yaml"))
        at = 0 if group.group == "method" else 1
        mine = [(path.parent.name, path.stem) for path in pairs]
        told.append(("recipes", ", ".join(pair[1 - at] for pair in mine if pair[at] == name)))
    told.append(("example", choice_example(here, group, name)))
    yield ""
    yield from wording.two_columns([row for row in told if row[1]], here.columns, LEFT)
    tree = values.nested("" if line == "_global_" else group.group, content)
    inside = [
        entry
        for entry in here.page.entries
        if values.has(tree, entry.key) and entry.key.startswith(prefix) and not entry.of_group
        and (not entry.of or name in entry.of)
    ]  # fmt: skip
    if inside:
        yield ""
        yield from rows(inside, here, tree)


def choice_example(here: Where, group: Group, name: str) -> str:
    """A command that makes the choice."""
    if group.words:
        return f"{here.command} {name}" + (" coreset=RUN" if name == "explain" else "")
    if group.group == "search":
        return f"{here.command} -m search={name}"
    words = [here.command, group.needs.get(name, ""), f"{group.group}={name}"]
    return " ".join(filter(None, words))
