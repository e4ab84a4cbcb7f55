"""The command `distill-report`: folders and key=value settings, no configuration files."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from distill_cli.cli.errors import exit_codes
from distill_cli.errors import UserError, choice_error

SETTINGS = {
    "out": "folder of the page (default: report)",
    "title": "heading of the page",
    "images": "most images of a class in a gallery (default: 5)",
    "figures": "true or false: also write the figures as PNG and SVG (default: true)",
}


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 cannot write, 2 wrong input."""
    arguments = parser().parse_args().arguments
    with exit_codes("report", hydras=False):
        settings = split(arguments)
        from distill_cli.tasks.report import Config, run
        from distill_cli.typed import build

        for line in run(build(Config, settings)):
            print(line, flush=True)


def parser() -> argparse.ArgumentParser:
    """What --help shows."""
    keys = "\n".join(f"  {key}=...  {text}" for key, text in SETTINGS.items())
    made = argparse.ArgumentParser(
        "distill-report",
        description="One page over many runs: table, curves, pictures, comparison, cost.",
        epilog=f"settings:\n{keys}\n\nexample:\n  distill-report outputs out=site",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("arguments", nargs="*", metavar="FOLDER or KEY=VALUE")
    return made


def split(arguments: Sequence[str]) -> dict[str, Any]:
    """Folders and settings apart; values are read as YAML, as everywhere.

    Raises UserError for unknown settings.
    """
    settings: dict[str, Any] = {"folders": []}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key.isidentifier():
            settings["folders"].append(argument)
        elif key not in SETTINGS:
            raise choice_error("key", key, SETTINGS)
        else:
            settings[key] = value if key in ("out", "title") else read(key, value)
    return settings


def read(key: str, value: str) -> Any:
    """A number or truth value. UserError where it cannot be read."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"{key}={value}: cannot be read") from None


if __name__ == "__main__":
    sys.exit(main())
