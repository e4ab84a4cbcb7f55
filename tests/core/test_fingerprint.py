"""Fingerprints of code: what counts, what does not."""

import ast

import pytest

from distill_cli.core import fingerprint
from distill_cli.core.fingerprint import canonical, changed, code_of, digest_of, file_of, imported

SOURCE = '''
"""Module."""
import numpy as np

def f(x, *, y=2):
    """Docstring."""
    return x + y  # sum

class A:
    """Class."""
    z: int = 3
'''


def text(source: str) -> str:
    return "".join(canonical(ast.parse(source)))


@pytest.mark.parametrize(
    ("old", "new"),
    [("# sum", "# other"), ('"""Docstring."""', '"""Other."""'), ('"""Module."""', ""),
     ("x + y", "(x  +  y)"), ('    """Class."""\n', ""), ("2):", "0x2):")],
)  # fmt: skip
def test_comments_docstrings_and_formatting_do_not_count(old, new):
    assert old in SOURCE
    assert text(SOURCE.replace(old, new)) == text(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"), [("x + y", "x - y"), ("y=2", "y=3"), ("z: int = 3", "z: int = 4"), ("f(", "g(")]
)
def test_code_counts(old, new):
    assert text(SOURCE.replace(old, new)) != text(SOURCE)


def test_a_method_is_followed_to_what_it_imports():
    code = code_of(["distill_cli.methods.rfad", "distill_cli.train.loop"])
    for name in ("methods.rfad", "methods.krr", "methods.averaged", "core.linalg", "core.losses",
                 "kernels.random_features", "kernels.products", "train.batches"):  # fmt: skip
        assert name in code
    for name in ("methods.kip", "train.progress", "train.checkpoint", "config", "core.hosts"):
        assert name not in code


def test_every_component_has_a_fingerprint_with_its_own_module():
    """Found by names of files: a new method, initialiser or kernel is in it too."""
    for folder in ("methods", "init", "kernels", "arch", "train/samplers", "evaluation"):
        for path in (fingerprint.ROOT / folder).glob("*.py"):
            name = f"{folder.replace('/', '.')}.{path.stem}"
            if path.stem != "__init__" and not fingerprint.belongs(name, fingerprint.SERVES):
                assert name in code_of([f"distill_cli.{name}"])


def test_relative_imports_do_not_escape():
    """imported() reads absolute imports alone: the package has no others in code that decides."""
    for folder in fingerprint.DECIDES:
        place = fingerprint.ROOT.joinpath(*folder.split("."))
        files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
        for path in files:
            for node in ast.walk(ast.parse(path.read_bytes())):
                assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_names_that_are_no_modules_are_left_out():
    names = list(imported(ast.parse("from distill_cli.core.linalg import solve, Reg")))
    assert names == ["core.linalg", "core.linalg.solve", "core.linalg.Reg"]
    assert file_of("core.linalg.Reg") is None


def test_changed_names_new_gone_and_different():
    assert changed({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == list("bcd")
    assert digest_of({"a": "1", "b": "2"}) == digest_of({"b": "2", "a": "1"})
    assert digest_of({"a": "1"}) != digest_of({"a": "2"})
