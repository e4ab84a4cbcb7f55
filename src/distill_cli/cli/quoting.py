"""Values as a shell gives them, quoted for Hydra's grammar where it would refuse them.

Hydra takes ASCII letters, digits and some marks outside quotes: `out=résultats`, `dataset.path=~/x`
or `out=a&b` are errors in it. Nothing that it can read is changed.
"""

import re
from collections.abc import Iterable

# What needs no quotes, or has a meaning: lists, dicts, functions, escapes, interpolations.
PLAIN = re.compile(r"[A-Za-z0-9_\-./+%*@?|:, \t]*")
MEANT = re.compile(r"[(){}\\$]|^['\"]")


def with_quotes(arguments: Iterable[str]) -> list[str]:
    """The arguments, `key=value` quoted where the value, its parts between commas or the entries of
    its list need it."""
    return [quoted(word) for word in arguments]


def quoted(word: str) -> str:
    """One argument."""
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"[+\w./@-]+", key) or key.startswith("-"):
        return word
    if key == "coreset":  # a path as it stands (compose.with_coreset_paths)
        return word
    is_list = value.startswith("[") and value.endswith("]")
    inner = value[1:-1] if is_list else value
    if PLAIN.fullmatch(inner) or MEANT.search(value):
        return word
    if re.search(r"[\[\]]", inner) or (is_list and re.search(r"['\"]", inner)):
        return word
    parts = ",".join(
        part if PLAIN.fullmatch(part) else in_quotes(part) for part in inner.split(",")
    )
    return f"{key}=[{parts}]" if is_list else f"{key}={parts}"


def in_quotes(text: str) -> str:
    """`text` as a quoted string of Hydra's grammar; spaces around it are none of it."""
    return "'" + text.strip().replace("\\", "\\\\").replace("'", "\\'") + "'"
