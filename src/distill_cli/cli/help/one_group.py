"""The answer to `help KEY` for a group and for one of its choices."""

from collections.abc import Iterator

from distill_cli.cli.help import entries, overview, values, wording
from distill_cli.cli.help.entries import Group
from distill_cli.cli.help.one_key import LEFT, MOST, Where, rows
from distill_cli.config import config_dir, group_choices
from distill_cli.errors import choice_error


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
