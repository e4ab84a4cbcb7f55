"""One run as tasks know it: its configuration, its folder, what it says and records."""

import dataclasses
import json
import logging
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill_cli.config import Config
from distill_cli.tasks.code import code_of_run

Result = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run: its configuration, the digest that names it, its folder, and the command typed."""

    config: Config
    digest: str
    folder: Path
    command: str

    @cached_property
    def code(self) -> dict[str, str]:
        """Fingerprints of the modules that decide its coreset."""
        return code_of_run(self.config)

    @property
    def result_file(self) -> Path:
        return self.folder / "result.json"

    @property
    def coreset_file(self) -> Path:
        return self.folder / "coreset" / "coreset.npz"


def say(job: Job, text: str) -> None:
    """Print, unless progress=none, and keep in the run's log."""
    log.info(text)
    if job.config.progress != "none":
        print(text, flush=True)


def as_tree(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def environment() -> dict[str, str]:
    """Versions that decide numerical results."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
