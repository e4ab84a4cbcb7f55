"""Errors that are the user's to mend: one line, exit code 2, no traceback."""

from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Wrong input. The message is one line that names what was found and what is allowed."""


def shown(value: object) -> str:
    """A value as it is typed: null, true and false, not Python's words for them."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{shown(item)}' for key, item in value.items())}}}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def first_of(names: Sequence[str], most: int) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def choice_error(key: str, value: object, allowed: Iterable[object]) -> UserError:
    """`key=value` is not among the allowed names; a near miss is suggested."""
    import difflib

    names = sorted(map(shown, allowed))
    if not names:
        return UserError(f"{key}={shown(value)}: unknown, or its package is not installed")
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return UserError(f"{key}={shown(value)}: unknown{hint}; choose one of {', '.join(names)}")


class StorageError(OSError):
    """Results or checkpoints cannot be written (disk full, for one). What is on disk stays."""


class RunStopped(Exception):
    """The run ended early for a reason that the message gives; exit code `code`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
