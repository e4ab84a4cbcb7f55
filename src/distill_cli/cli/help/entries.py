"""The table of keys in keys/*.yaml as records. Imports no jax."""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from distill_cli.errors import shown

# What reads YAML: the parser in C where PyYAML has it, ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The files of each command, the main one first.
FILES = {
    "distill": ("distill",),
    "distill-evaluate": ("evaluate",),
    "distill-export": ("export",),
    "distill-table": ("table",),
    "distill-report": ("report",),
    "distill-apply": ("apply",),
    "distill-theory": ("theory", "subspace"),
}


@dataclass(frozen=True)
class Entry:
    """One key. of: the choices of its group (or words of its command) that the entry is about, ()
    for all that have the key; choices: what is allowed, with meanings, None where `type` and
    `allowed` say it; short: a shorter name that may be typed; of_group: set by choosing."""

    key: str
    meaning: str
    of: tuple[str, ...] = ()
    type: str = ""
    allowed: str = ""
    choices: dict[str, str] | None = None
    more: str = ""
    example: str = ""
    short: str = ""
    of_group: bool = False

    @property
    def group(self) -> str:
        """The first part of a dotted key, a config group for keys of components."""
        return self.key.partition(".")[0]


@dataclass(frozen=True)
class Group:
    """A config group. internal: pattern of the names that are attached by themselves, "" for a
    group that is typed; note: about its default; words: its choices are the command's words;
    needs: what has to be typed beside a choice."""

    group: str
    meaning: str
    more: str = ""
    note: str = ""
    example: str = ""
    internal: str = ""
    list: bool = False
    words: bool = False
    needs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """Keys with one purpose. choice: group=name that the keys belong to, "" for all."""

    purpose: str
    title: str
    entries: tuple[Entry, ...]
    hidden: bool = False
    choice: str = ""


@dataclass(frozen=True)
class Page:
    """One file: what a command does and needs, its keys. inherits: the file whose keys it takes
    besides; words: what may stand first; also: another way to type the same;
    lead: what an example begins with."""

    name: str
    about: str
    usage: tuple[str, ...]
    requires: str
    examples: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    words: dict[str, str]
    also: str
    lead: str
    inherits: str
    section: str
    groups: tuple[Group, ...]
    sections: tuple[Section, ...]

    @property
    def entries(self) -> Iterator[Entry]:
        """All keys of the file."""
        return itertools.chain.from_iterable(section.entries for section in self.sections)


def read(path: Path) -> Any:
    """A YAML file."""
    return yaml.load(path.read_text(encoding="utf-8"), LOADER)


@functools.cache
def page(name: str) -> Page:
    """keys/<name>.yaml."""
    tree = read(Path(__file__).parent / "keys" / f"{name}.yaml")
    sections = tuple(
        Section(
            one["purpose"], one["title"],
            tuple(entry for item in one["keys"] for entry in entries_of(item)),
            one.get("hidden", False), one.get("choice", ""),
        )
        for one in tree["sections"]
    )  # fmt: skip
    return Page(
        name, tree["about"], tuple(tree["usage"]), tree["requires"],
        tuple(map(tuple, tree["examples"])), tuple(map(tuple, tree.get("options", ()))),
        tree.get("words", {}), tree.get("also", ""), tree.get("lead", ""), tree.get("inherits", ""),
        tree.get("section", ""), tuple(Group(**one) for one in tree.get("groups", ())), sections,
    )  # fmt: skip


def entries_of(item: dict[str, Any]) -> Iterator[Entry]:
    """The entries of one item of a file, one for each key that {a,b} stands for."""
    choices = item.get("choices")
    if isinstance(choices, list):
        choices = dict.fromkeys(choices)
    if choices is not None:
        item = item | {"choices": {shown(name): text or "" for name, text in choices.items()}}
    for key in braces(item["key"]):
        yield Entry(**(item | {"key": key, "of": tuple(item.get("of", ()))}))


def braces(text: str) -> list[str]:
    """a.{b,c}.d as a.b.d and a.c.d."""
    found = re.search(r"\{([^}]*)\}", text)
    if not found:
        return [text]
    before, after = text[: found.start()], text[found.end() :]
    return [done for part in found.group(1).split(",") for done in braces(before + part + after)]


def pages(command: str) -> list[Page]:
    """The files of a command, those whose keys it takes besides last."""
    own = [page(name) for name in FILES[command]]
    inherited = dict.fromkeys(one.inherits for one in own if one.inherits)
    return [*own, *map(page, inherited)]


def sections_of(found: Page, purposes: Iterable[str]) -> list[Section]:
    """Sections by their purposes."""
    wanted = list(purposes)
    return [section for section in found.sections if section.purpose in wanted]
