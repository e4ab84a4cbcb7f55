"""The command `distill-report`: key=value settings, no configuration files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from distill_cli.cli.errors import exit_codes
from distill_cli.cli.help.answer import answered
from distill_cli.cli.help.entries import page
from distill_cli.errors import UserError, choice_error


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 cannot write, 2 wrong input."""
    if answered("distill-report", sys.argv[1:]):
        return
    with exit_codes("report", hydras=False):
        settings = split(sys.argv[1:])
        from distill_cli.tasks.report import Config, run
        from distill_cli.typed import build

        for line in run(build(Config, settings)):
            print(line, flush=True)


def split(arguments: Sequence[str]) -> dict[str, Any]:
    """Settings by key; words that stand alone are folders, as if typed runs=.

    Values are read as YAML, as everywhere. Raises UserError for unknown settings and options.
    """
    known = [entry.key for entry in page("report").entries]
    settings: dict[str, Any] = {"runs": []}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.startswith("-"):
            hint = f"{key.lstrip('-')}={value or 'VALUE'}"
            raise UserError(
                f"{argument}: no such option; settings are typed without dashes, e.g. {hint}; "
                "see distill-report --help"
            )
        if not equals or not key.isidentifier():
            settings["runs"].append(argument)
        elif key not in known:
            raise choice_error("key", key, known)
        elif key == "runs":
            settings["runs"] += folders(value)
        else:
            settings[key] = value if key in ("out", "title") else read(key, value)
    return settings


def folders(value: str) -> list[str]:
    """[a,b] or a,b as several folders; a folder that exists with its comma is one."""
    if value.startswith("["):
        found = read("runs", value)
        return [str(one) for one in found] if isinstance(found, list) else [value]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":  # as for Hydra's commands
        return [value[1:-1]]
    if value and Path(value).expanduser().exists():
        return [value]
    return [part for part in value.split(",") if part]


def read(key: str, value: str) -> Any:
    """A list, number or truth value. UserError where it cannot be read."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"{key}={value}: cannot be read") from None


if __name__ == "__main__":
    sys.exit(main())
