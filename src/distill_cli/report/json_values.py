"""Values of JSON that may be missing, or of another kind than they should be. Imports no jax."""

import math
from collections.abc import Mapping
from typing import Any


def section(tree: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A nested object, or an empty one where there is none."""
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


def number(value: object) -> float | None:
    """A finite number as float, else None: booleans, text, NaN and infinities are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """A number as the nearest whole one, None where it is none."""
    found = number(value)
    return None if found is None else round(found)


def numbers(tree: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers."""
    return {key: found for key, value in tree.items() if (found := number(value)) is not None}


def text(value: object) -> str:
    """Text as it is, other values as Python shows them, "" for none."""
    return "" if value is None else str(value)
