"""The answer to `help KEY`: all about one key, group, choice, or section of keys."""

import difflib

from distill_cli.cli.help import entries, overview, wording
from distill_cli.cli.help.entries import Page
from distill_cli.cli.help.one_group import choice_lines, group_lines
from distill_cli.cli.help.one_key import MOST, Where, entry_lines, rows
from distill_cli.config import group_choices
from distill_cli.errors import UserError


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


def owner(command: str, page: Page) -> str:
    """The command that an example shows: the one whose keys they are."""
    return command if page.name in entries.FILES[command] else page.name


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
    return UserError(f"{shown or repr(shown)}: no key, group or choice; {hint}")


def own_names(command: str) -> list[str]:
    """Keys of a command as they are typed, without those that it takes from another."""
    pages = [page for page in entries.pages(command) if page.name in entries.FILES[command]]
    return [overview.name_of(entry, page) for page in pages for entry in page.entries]
