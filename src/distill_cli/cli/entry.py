"""Entry points of the installed commands: signals are handled before anything else is imported."""

import importlib

from distill_cli.cli import early_signals


def start(name: str) -> None:
    """The `main` of a command's module. Exit codes are the command's."""
    early_signals.install()
    importlib.import_module(f"distill_cli.cli.{name}").main()


def distill() -> None:
    """`distill`."""
    start("distill")


def evaluate() -> None:
    """`distill-evaluate`."""
    start("evaluate")


def export() -> None:
    """`distill-export`."""
    start("export")


def table() -> None:
    """`distill-table`."""
    start("table")


def report() -> None:
    """`distill-report`."""
    start("report")


def apply() -> None:
    """`distill-apply`."""
    start("apply")


def theory() -> None:
    """`distill-theory`."""
    start("theory")
