"""Default values of keys, read from the files in configs/ as Hydra reads them, without Hydra.

Composing with Hydra takes a second or more, most of it in its parser; help is asked for by people
who wait. Understood is what the files use: defaults lists with `_self_`, optional entries, names
made of ${group}, overrides of groups, `@package` lines. A test holds this against Hydra.
"""

import copy
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from distill_cli.cli.help.entries import read
from distill_cli.config import config_dir, group_choices
from distill_cli.errors import choice_error

Choice = str | list[str]
PACKAGE = re.compile(r"^# @package (\S+)", re.M)
SET_BY = ("method", "search", "hardware", "reduced", "recipe", "preset")  # files of whole settings


class Layer(NamedTuple):
    """What one file sets. name: its path without .yaml, e.g. method/kip; tree: nested, from the
    top of the configuration."""

    name: str
    tree: dict[str, Any]


class Composed(NamedTuple):
    """A configuration. attached: files that came by themselves, e.g. recipe/rfad/digits."""

    tree: dict[str, Any]
    choices: dict[str, Choice]
    attached: list[str]


@functools.cache
def file(path: Path) -> tuple[str | None, list[Any], dict[str, Any]]:
    """(package line or None, defaults list, content) of a file."""
    found = PACKAGE.search(path.read_text(encoding="utf-8"))
    tree = dict(read(path) or {})
    defaults = tree.pop("defaults", [])
    tree.pop("hydra", None)
    return found and found.group(1), defaults, tree


def nested(package: str, tree: Any) -> dict[str, Any]:
    """The tree under a dotted package."""
    for part in reversed(package.split(".") if package else []):
        tree = {part: tree}
    return tree


def layers(name: str, package: str, choices: Mapping[str, Choice]) -> Iterator[Layer]:
    """What configs/<name>.yaml sets, and the files that it includes, in their order."""
    line, defaults, content = file(config_dir() / f"{name}.yaml")
    if line is not None:
        package = "" if line == "_global_" else line
    own = Layer(name, nested(package, content))
    if "_self_" not in defaults:
        defaults = [*defaults, "_self_"]
    for entry in defaults:
        if entry == "_self_":
            yield own
        elif isinstance(entry, str):
            beside = str(Path(name).parent / entry)
            yield from layers(entry[1:] if entry[0] == "/" else beside, package, choices)
        else:
            ((key, value),) = entry.items()
            words = key.split()
            if words[0] == "override":
                continue
            group, _, at = words[-1].lstrip("/").partition("@")
            inner = f"{package}.{at}" if at and package else at or package_of(group)
            group = group if words[-1][0] == "/" or "/" not in name else f"{name}/{group}"
            chosen = choices.get(group, value) if not at else value
            for one in [chosen] if isinstance(chosen, str) else chosen:
                target = f"{group}/{filled(one, choices)}"
                if words[0] != "optional" or (config_dir() / f"{target}.yaml").is_file():
                    yield from layers(target, inner, choices)


def package_of(group: str) -> str:
    """Where the files of a group go unless they say it."""
    return group.replace("/", ".")


def filled(name: str, choices: Mapping[str, Choice]) -> str:
    """${method}/${dataset} with the names of the choices."""
    return re.sub(r"\$\{(\w+)\}", lambda found: str(choices.get(found.group(1), "")), name)


def choices_of(name: str, typed: Mapping[str, Choice]) -> dict[str, Choice]:
    """The choice of every group of a command's configuration: typed, else that of the method or
    search, else the default. UserError for a name that a group does not have."""
    found: dict[str, Choice] = {}
    for entry in file(config_dir() / f"{name}.yaml")[1]:
        if isinstance(entry, str) and entry != "_self_":
            found |= choices_of(entry, {})
        elif isinstance(entry, dict):
            ((key, value),) = entry.items()
            if " " not in key:
                found[key] = value
    found |= {key: value for key, value in typed.items() if key in found}
    for group, value in found.items():
        for one in [value] if isinstance(value, str) else value:
            if one not in group_choices(group):
                raise choice_error(group, one, group_choices(group))
    for group in ("method", "search"):
        if group not in found:
            continue
        for entry in file(config_dir() / group / f"{found[group]}.yaml")[1]:
            for key, value in entry.items() if isinstance(entry, dict) else ():
                other = key.removeprefix("override /")
                if other in found and other not in typed:
                    found[other] = value
    return found


def composed(
    name: str, typed: Mapping[str, Choice] | None = None, given: Mapping[str, Any] | None = None
) -> Composed:
    """configs/<name>.yaml with typed choices of groups, and with given values of dotted keys;
    interpolations resolved."""
    from distill_cli.naming import register_resolvers

    choices = choices_of(name, typed or {})
    tree: dict[str, Any] = {}
    attached = []
    for layer in layers(name, "", choices):
        merge(tree, layer.tree)
        if layer.name.partition("/")[0] in ("recipe", "reduced", "preset"):
            attached.append(layer.name)
    for key, value in (given or {}).items():
        merge(tree, nested(key, value))
    register_resolvers()
    resolved: Any = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    return Composed(resolved, choices, attached)


def merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    """Nested dicts over nested dicts; anything else replaces."""
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)  # the files are kept, and read again


def at(tree: Any, key: str) -> Any:
    """The value of a dotted key. KeyError where there is none."""
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            raise KeyError(key)
        tree = tree[part]
    return tree


def has(tree: Any, key: str) -> bool:
    """Whether a tree has a dotted key."""
    try:
        at(tree, key)
    except KeyError:
        return False
    return True


def leaves(tree: Mapping[str, Any], known: Iterable[str], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a tree; a section that is itself a known key, and has none inside, is one."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        inside = any(other.startswith(f"{path}.") for other in known)
        if isinstance(value, dict) and value and (inside or path not in known):
            yield from leaves(value, known, f"{path}.")
        elif value != {} or path in known:
            yield path


def in_files(group: str, key: str) -> dict[str, Any]:
    """Choice -> value of a key, for the choices of a group whose own file sets it (unresolved)."""
    found = {}
    for name in group_choices(group):
        # A list of protocols is one of files that include others; only their own content counts.
        line, _, content = file(config_dir() / group / f"{name}.yaml")
        tree = nested("" if line == "_global_" else group, content)
        if has(tree, key):
            found[name] = at(tree, key)
    return found


def where_set(key: str) -> dict[str, Any]:
    """File -> value of a key, for methods, searches, hardware, recipes, sizes and presets."""
    found = {}
    for folder in SET_BY:
        for path in sorted((config_dir() / folder).rglob("*.yaml")):
            name = path.relative_to(config_dir()).with_suffix("").as_posix()
            line, _, content = file(path)
            inner = name.partition("/evaluation/")[2]  # preset/<hardware>/evaluation/<protocol>
            package = f"evaluation.{inner}" if inner else folder
            tree = nested("" if line == "_global_" else package, content)
            if has(tree, key):
                found[name] = at(tree, key)
    return found


def by_value(found: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    """(value, the names that have it), in the order in which values first come."""
    groups: dict[str, tuple[Any, list[str]]] = {}
    for name, value in found.items():
        groups.setdefault(repr(value), (value, []))[1].append(name)
    return list(groups.values())


def by_frequency(found: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    """(value, the names that have it), the commonest value first."""
    return sorted(by_value(found), key=lambda group: -len(group[1]))
