"""The command `distill-evaluate`."""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.cli.compose import coreset_override, with_coreset_paths
from distill_cli.cli.errors import exit_codes, job_errors
from distill_cli.cli.help.answer import answered
from distill_cli.config import config_dir
from distill_cli.core.coreset_io import FORMATS, record
from distill_cli.core.lock import remove_if_unused
from distill_cli.errors import UserError
from distill_cli.formats.detect import declared_preprocess
from distill_cli.naming import register_resolvers

# Settings of a run that mean nothing for evaluating its coreset, or that name the run's output.
NOT_INHERITED = ("evaluation", "out", "init", "hydra", "progress", "checkpoint", "devices")


def main() -> None:
    """Entry point. Exit codes as `distill`."""
    if answered("distill-evaluate", sys.argv[1:]):
        return
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    command = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="evaluate")(
        task
    )
    with exit_codes("evaluate"):
        for arguments in [with_run_settings(one) for one in each_coreset(sys.argv[1:])]:
            GlobalHydra.instance().clear()
            sys.argv[1:] = arguments
            command()


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


def each_coreset(arguments: Sequence[str]) -> list[list[str]]:
    """Arguments for each path of `coreset=A,B` or `coreset=[A,B]`: they are measured one after
    another, each with its own settings. A path that exists with its comma is one. UserError where
    one of several is missing, before the first is measured."""
    for at, argument in enumerate(arguments):
        key, _, value = argument.partition("=")
        if key not in ("coreset", "coreset.path") or "," not in value or exists(value):
            continue
        if value.startswith("["):  # as lists are written elsewhere, names with commas in quotes
            paths = [str(path) for path in read_list(value)]
        else:
            paths = [path for path in value.strip("'\"").split(",") if path]
        for path in paths:
            if not exists(path):
                raise UserError(f"coreset={path}: no such file or folder")
        return [[*arguments[:at], coreset_override(path), *arguments[at + 1 :]] for path in paths]
    return [list(arguments)]


def read_list(value: str) -> list[Any]:
    """[a, 'b,c'] as YAML reads it. UserError where it is none."""
    import yaml

    try:
        return list(yaml.safe_load(value))
    except (yaml.YAMLError, TypeError):
        raise UserError(f"coreset={value}: cannot be read as a list of paths") from None


def exists(path: str) -> bool:
    """Whether a typed path, perhaps in quotes, leads anywhere."""
    return Path(path.strip("'\"")).expanduser().exists()


def with_run_settings(arguments: Iterable[str]) -> list[str]:
    """Arguments with `coreset=PATH` spelled coreset.path=, and the coreset's own settings before
    them.

    A run folder or an export brings its dataset, preprocessing and architecture along, as the
    recorded command says; a foreign file the preprocessing that its format or name says. What is
    typed wins, except that another preprocessing than a foreign file's needs coreset.force=true
    (a run's is compared with its record later). Raises UserError.
    """
    typed = with_coreset_paths(arguments)
    given = {item.partition("=")[0].lstrip("+~"): item.partition("=")[2] for item in typed}
    if not given.get("coreset.path"):
        if any(flag in typed for flag in ("--cfg", "-c", "--info")):
            return typed
        raise UserError("coreset: missing; give coreset=<run folder or coreset file>")
    path = Path(given["coreset.path"].strip("'\"").replace("\\'", "'")).expanduser()
    own = recorded(path)
    if not own and path.exists():
        own = declared(path, given)
    # Another preprocessing replaces all of the coreset's, not just the keys that are typed.
    whole = "preprocess" in given
    kept = [item for item in own if not (whole and item.startswith("preprocess"))]
    return [*(item for item in kept if item.partition("=")[0] not in given), *typed]


def declared(path: Path, given: Mapping[str, str]) -> list[str]:
    """Preprocessing overrides that a foreign file's format or name stands for.

    Raises UserError where the typed ones contradict them and coreset.force is not true.
    """
    format = given.get("coreset.format", "auto")
    if format not in ("auto", *FORMATS):
        return []  # reported with the choices when the coreset is read
    said = declared_preprocess(path, format, given.get("dataset"))
    for item in said:
        key, _, value = item.partition("=")
        typed = given.get(key, value).strip("'\"").replace(" ", "")
        if typed.lower() != value and given.get("coreset.force", "").lower() != "true":
            raise UserError(
                f"coreset={path}: by its format or name it was made with {' '.join(said)}; "
                f"{key}={typed} contradicts that; leave preprocess out, or give coreset.force=true"
            )
    return said


def recorded(path: Path) -> list[str]:
    """Overrides of the command that made a coreset, without those that are its own business."""
    command = record(path).get("command")
    overrides = shlex.split(command)[1:] if isinstance(command, str) else []
    return [item for item in overrides if item.split("=")[0].split(".")[0] not in NOT_INHERITED]


if __name__ == "__main__":
    sys.exit(main())
