"""Settings of distill-table, typed as key=value like everywhere, or as options: --cells ipc1."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distill_cli.cli.help.entries import page
from distill_cli.errors import UserError, choice_error
from distill_cli.typed import convert, out_folder

SEE = "see distill-table --help"


@dataclass(frozen=True)
class Options:
    """table: name of a table or a file; file: of `readme`; cells: patterns; seeds: instead of the
    table's (None: those); out: folder of results; jobs, launcher: of `run`; format, save, figure:
    of `show`; against: of `verify`; expected: the registry (None: the shipped one, or that beside
    a table file); check: of `readme`; more: added to every command."""

    table: str = ""
    file: str = ""
    cells: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    out: Path = Path("outputs")
    jobs: int = 1
    launcher: str | None = None
    format: str = "terminal"
    save: Path | None = None
    figure: Path | None = None
    against: str = "auto"
    expected: Path | None = None
    check: bool = False
    more: tuple[str, ...] = ()


def keys_of(command: str) -> list[str]:
    """The keys of a command word, e.g. of run; what stands alone (table or file) first."""
    return [entry.key for entry in page("table").entries if command in entry.of]


def parse(command: str, words: Sequence[str]) -> Options:
    """The settings among the words behind a command word; other key=value go to `more`.

    Raises UserError for options and values that there are not, and where the table is missing.
    """
    allowed = keys_of(command)
    every = {entry.key: entry.of for entry in page("table").entries}
    values: dict[str, Any] = {}
    more = []
    for word, key, text in typed(words, allowed):
        if key in allowed:
            taken = value_of(key, text, as_list=not word.startswith("-"))
            values[key] = values.get(key, ()) + taken if key == "cells" else taken
        elif key in every:
            of = " and ".join(every[key])
            raise UserError(f"{word}: distill-table {command} takes no {key}; {of} does")
        elif key is None and allowed and allowed[0] not in values:
            values[allowed[0]] = word
        elif key is None or not allowed or command == "readme":
            raise UserError(f"{word}: unknown option of distill-table {command}; {SEE}")
        else:
            more.append(word)
    if allowed and not values.get(allowed[0]):
        raise UserError(f"{allowed[0]}: missing; give {allowed[0]}=..., {SEE}")
    return Options(**values, more=tuple(more))


def typed(words: Iterable[str], allowed: Sequence[str]) -> Iterable[tuple[str, str | None, str]]:
    """(word, key, value) of each setting; key None for a word that stands alone."""
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            name = key.removeprefix("--")
            if not key.startswith("--") or name not in allowed[1:]:
                raise UserError(f"{word}: unknown option; {SEE}")
            if name == "check" and not equals:
                value = "true"
            elif not equals and not (value := next(rest, "")):
                raise UserError(f"{word}: a value is missing")
            yield word, name, value
        elif equals and not (key not in allowed and Path(word).is_file()):
            yield word, key, value
        else:
            yield word, None, ""


def value_of(key: str, text: str, as_list: bool) -> Any:
    """The value of a setting. as_list: whether [a,b] is a list, as in key=value."""
    text = text.strip("'\"")
    listed = text[1:-1] if as_list and text[:1] == "[" and text[-1:] == "]" else text
    if key == "cells":
        return tuple(part.strip() for part in listed.split(",") if part.strip())
    if key == "seeds":
        return None if text == "null" else seeds(text, listed)
    if key in ("jobs", "check"):
        return convert(int if key == "jobs" else bool, read(key, text), key)
    if key in ("launcher", "save", "figure", "expected") and text in ("", "null"):
        return None
    if key == "against" and text not in ("auto", "published", "recorded"):
        raise choice_error(key, text, ("auto", "published", "recorded"))
    if key == "out":
        return out_folder(text)
    return Path(text) if key in ("save", "figure", "expected") else text


def seeds(text: str, listed: str) -> tuple[int, ...]:
    """0,1,2 as numbers."""
    parts = [part.strip() for part in listed.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"seeds={text}: must be whole numbers >= 0 with commas, e.g. 0,1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def read(key: str, text: str) -> Any:
    """A number or truth value."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{key}={text}: cannot be read") from None
