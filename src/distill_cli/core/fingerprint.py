"""Fingerprints of the code that decides a result: an edited method is another method.

A fingerprint is taken of the syntax tree without docstrings, so that comments, formatting and
documentation do not count, and of every module of the package that a method imports, directly or
not. Imports no jax and executes nothing.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = "distill_cli"
ROOT = Path(__file__).parents[1]
# Packages and modules whose code decides coresets and measurements ...
DECIDES = (
    "apply", "arch", "augment", "core", "data", "evaluation", "init", "kernels", "methods", "nets",
    "tasks.problem", "tasks.apply_continual", "tasks.apply_explain", "tasks.apply_membership",
    "tasks.apply_privacy", "theory", "train",
)  # fmt: skip
# ... except for these, which share out, write, show or stop.
SERVES = (
    "core.files", "core.fingerprint", "core.host_failures", "core.host_output", "core.host_place",
    "core.hosts", "core.lock", "evaluation.kept_networks", "kernels.exact.kept",
    "train.checkpoint", "train.clock", "train.loggers", "train.native_calls", "train.progress",
    "train.signals", "train.tracking",
)  # fmt: skip


def code_of(roots: Iterable[str]) -> dict[str, str]:
    """{module: eight hex digits} of these modules of the package and of those that they import,
    e.g. {"core.linalg": "0f3a...", "methods.rfad": "..."}; without the package's name."""
    found: dict[str, str] = {}
    waiting = [short(root) for root in roots]
    while waiting:
        name = waiting.pop()
        if name in found or not decides(name):
            continue
        file = file_of(name)
        if file is None:
            continue
        found[name], imported = read(file)
        waiting += imported
    return dict(sorted(found.items()))


def digest_of(code: Mapping[str, str]) -> str:
    """Eight hex digits over a fingerprint."""
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:8]


def changed(former: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Modules that differ, that are new, or that are gone."""
    names = former.keys() | now.keys()
    return sorted(name for name in names if former.get(name) != now.get(name))


def short(module: str) -> str:
    """A module's name without the package's."""
    return module.removeprefix(f"{PACKAGE}.")


def decides(name: str) -> bool:
    """Whether a module belongs to a fingerprint."""
    return belongs(name, DECIDES) and not belongs(name, SERVES)


def belongs(name: str, parts: Iterable[str]) -> bool:
    """Whether a module is one of these or lies in one of them."""
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


def file_of(name: str) -> Path | None:
    """The source of a module, None for a name that is none (of a class, or a function)."""
    place = ROOT.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def read(file: Path) -> tuple[str, tuple[str, ...]]:
    """(fingerprint, names of the package that may be modules it imports) of a source file."""
    return read_version(file, file.stat().st_mtime_ns)


@cache
def read_version(file: Path, modified: int) -> tuple[str, tuple[str, ...]]:
    """The same, once for every state of the file."""
    del modified
    tree = ast.parse(file.read_bytes())
    digest = hashlib.sha256("".join(canonical(tree)).encode()).hexdigest()[:8]
    return digest, tuple(imported(tree))


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of the package that a tree imports, at its top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (short(name) for name in names if name.startswith(f"{PACKAGE}."))


def canonical(node: object) -> Iterator[str]:
    """A syntax tree as text that does not depend on the version of Python: without positions,
    docstrings, and fields that are empty, of which later versions have more."""
    if isinstance(node, list):
        for item in node:
            yield from canonical(item)
        return
    if not isinstance(node, ast.AST):
        yield repr(node)
        return
    yield f"({type(node).__name__}"
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = without_docstring(node, value)
        if value is None or value == []:
            continue
        yield f" {name}="
        yield from canonical(value)
    yield ")"


def without_docstring(node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a module, class or function behind its docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return body[1:] if isinstance(node, documented) and ast.get_docstring(node, False) else body
