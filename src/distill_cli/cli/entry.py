"""Entry points of the installed commands: signals are handled before anything else is imported."""

import importlib
from functools import partial

from distill_cli.cli import early_signals


def start(name: str) -> None:
    """The `main` of a command's module. Exit codes are the command's."""
    early_signals.install()
    importlib.import_module(f"distill_cli.cli.{name}").main()


distill = partial(start, "distill")
evaluate = partial(start, "evaluate")
export = partial(start, "export")
table = partial(start, "table")
report = partial(start, "report")
apply = partial(start, "apply")
theory = partial(start, "theory")
