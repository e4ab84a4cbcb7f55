"""The command `distill-evaluate`."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from distill_cli.cli.compose import as_override
from distill_cli.cli.distill import remove_if_unused
from distill_cli.cli.errors import exit_codes, job_errors
from distill_cli.config import config_dir, register_resolvers
from distill_cli.core.files import read_json
from distill_cli.errors import UserError

# Settings of a run that mean nothing for evaluating its coreset, or that name the run's output.
NOT_INHERITED = ("evaluation", "out", "hydra", "progress", "checkpoint")


def main() -> None:
    """Entry point. Exit codes as `distill`."""
    import hydra

    register_resolvers()
    with exit_codes("evaluate"):
        sys.argv[1:] = with_run_settings(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="evaluate")(
            task
        )()


def task(composed: DictConfig) -> float:
    """One job of Hydra's. Returns the first protocol's accuracy."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from distill_cli.tasks.evaluate import parse_target, run

    hydra_config = HydraConfig.get()
    command = shlex.join(["distill-evaluate", *hydra_config.overrides.task])
    folder = Path(hydra_config.runtime.output_dir)
    with job_errors(hydra_config.mode == RunMode.MULTIRUN):
        try:
            rows = run(parse_target(composed), folder, command)["evaluations"]
        except UserError:
            remove_if_unused(folder)
            raise
    return float(rows[0]["accuracy"]) if rows else 0.0


def with_run_settings(arguments: Iterable[str]) -> list[str]:
    """Arguments with `coreset=PATH` spelled coreset.path=, and the run's own settings before them.

    A run folder brings its dataset, preprocessing and architecture along, as the command in its
    result.json says; what is typed wins.
    """
    typed = []
    path = None
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in ("coreset", "coreset.path"):
            path = value.strip("'\"")
            argument = argument if key == "coreset.path" else as_override("coreset.path", value)
        typed.append(argument)
    if path is None:
        if any(flag in typed for flag in ("--help", "-h", "--cfg", "-c", "--info")):
            return typed
        raise UserError("coreset: missing; give coreset=<run folder or npz file>")
    keys = {item.partition("=")[0].lstrip("+~") for item in typed}
    return [*(item for item in recorded(Path(path)) if item.partition("=")[0] not in keys), *typed]


def recorded(path: Path) -> list[str]:
    """Overrides of the command that made a coreset, without those that are its own business."""
    for folder in (path, path.parent, path.parent.parent):
        result = read_json(folder.expanduser() / "result.json")
        if isinstance(result, dict) and "command" in result:
            overrides = shlex.split(result["command"])[1:]
            return [o for o in overrides if o.split("=")[0].split(".")[0] not in NOT_INHERITED]
    return []


if __name__ == "__main__":
    sys.exit(main())
