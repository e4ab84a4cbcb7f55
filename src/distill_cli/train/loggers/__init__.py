"""Further places for the numbers of metrics.jsonl; logger=<name> selects a module by its name.

A module has a dataclass `Config`, whose construction fails with one line where the package is
missing, and `open_sink(config, run) -> Sink`.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.train.tracking import Sink


@dataclass(frozen=True)
class Run:
    """What a logger may say about a run. resume_at: first step that will be written again; None for
    a run that begins."""

    folder: Path
    name: str
    digest: str
    config: Mapping[str, Any]
    resume_at: int | None


def require(name: str, package: str) -> None:
    """UserError where the package of logger=`name` is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"logger={name}: needs the package {package}; pip install 'distill-cli[{name}]'"
        )


def open_sinks(loggers: Mapping[str, Any], run: Run) -> list[Sink]:
    """The sinks of a configuration's logger section."""
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in loggers}
    return [module.open_sink(loggers[name], run) for name, module in modules.items()]
