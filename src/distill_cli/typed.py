"""Plain values into frozen dataclasses, with the key named in every complaint. Imports no jax."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal

from distill_cli.errors import UserError, choice_error, shown

# What a value must be, as someone who types it says it.
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
WORDS |= {list: "a list, as [a,b]", tuple: "a list, as [a,b]"}


def build(cls: type, tree: dict[str, Any], prefix: str = "") -> Any:
    """Build a dataclass from a dict, checking names and types; errors name the full key."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in fields:
            raise choice_error("key", f"{prefix}{key}", (f"{prefix}{name}" for name in fields))
    values = {}
    for name, spec in fields.items():
        if name in tree:
            values[name] = convert(hints[name], tree[name], f"{prefix}{name}")
        elif spec.default is spec.default_factory is dataclasses.MISSING:
            raise UserError(f"{prefix}{name}: missing; give {prefix}{name}=...")
    return cls(**values)


def convert(hint: Any, value: Any, key: str, besides: str = "") -> Any:
    """Check value against a type hint; ints pass as floats and 1e5 as the integer it is.

    besides: what a complaint allows besides, as words.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, float) and math.isinf(value):
        raise UserError(f"{key}={value}: must be finite")
    if hint is Any or (isinstance(hint, type) and isinstance(value, hint) and hint is not int):
        return value
    if origin is Literal:
        if value in args:
            return value
        raise choice_error(key, value, args)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        (inner,) = [arg for arg in args if arg is not type(None)]
        return convert(inner, value, key, " or null")
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return tuple(convert(args[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: convert(args[1], item, f"{key}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast(type, hint), value, f"{key}.")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str and number:  # a folder called 2024 or nan
        return str(value)
    if hint is float and number:
        return float(value)
    if hint is int and number and float(value).is_integer():
        return int(value)
    wanted = WORDS.get(origin or hint, f"a section, whose keys are given as {key}.KEY=")
    raise UserError(f"{key}={shown(value)}: must be {wanted}{besides}")


def out_folder(named: str | Path) -> Path:
    """The folder that `out` names; UserError for "", which a variable that is not set leaves."""
    if not str(named).strip():
        raise UserError("out: empty; give a folder, or . for this one")
    return Path(named).expanduser()
