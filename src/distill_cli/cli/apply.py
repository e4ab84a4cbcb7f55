"""The command `distill-apply`: applications of distilled sets."""

import hashlib
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from distill_cli.apply.config import APPLICATIONS, keys_of, parse_apply
from distill_cli.cli.compose import compose, run_folder
from distill_cli.cli.errors import exit_codes, job_errors
from distill_cli.cli.evaluate import with_run_settings
from distill_cli.cli.help.answer import answered
from distill_cli.config import config_dir, parse, plain
from distill_cli.core.lock import locked, remove_if_unused
from distill_cli.errors import UserError, choice_error
from distill_cli.naming import digest, register_resolvers

if TYPE_CHECKING:
    from distill_cli.tasks.job import Job

# What an inner run does not take over from the command line.
NOT_OF_A_RUN = ("apply", "coreset", "hydra")
# What an application measures unless evaluation= is typed.
DEFAULTS = {"continual": ("evaluation=[krr_nngp,dsa]", "evaluation.networks=3")}
USAGE = "distill-apply privacy | membership | explain | continual key=value ..."


def main() -> None:
    """Entry point. Exit codes as `distill`."""
    if answered("distill-apply", sys.argv[1:]):
        return
    import hydra

    register_resolvers()
    OmegaConf.register_new_resolver(
        "apply_digest", lambda *, _root_: apply_digest(plain(_root_)), replace=True
    )
    with exit_codes("apply"):
        sys.argv[1:] = arguments(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="apply")(task)()


def arguments(typed: Sequence[str]) -> list[str]:
    """Hydra's arguments: the application becomes apply=<name>, its keys get `apply.` before them.

    continual gets its default evaluation; explain takes the coreset's own settings along, as
    distill-evaluate does. Raises UserError.
    """
    if not typed:
        raise UserError(f"application: missing; {USAGE}")
    application, *rest = typed
    if application not in APPLICATIONS:
        raise choice_error("application", application, APPLICATIONS)
    own = keys_of(application)
    given = []
    for item in rest:
        key = item.partition("=")[0]
        if key.startswith("apply.") and key.removeprefix("apply.") not in own:
            raise choice_error("key", key, (f"apply.{name}" for name in own))
        given.append(f"apply.{item}" if "=" in item and key in own else item)
    if application == "explain":
        given = with_run_settings(given)
    elif any(item.partition("=")[0].split(".")[0] == "coreset" for item in given):
        raise UserError(f"coreset: {application} distils by itself; only explain takes a coreset")
    typed_keys = {key_of(item) for item in given}
    defaults = [i for i in DEFAULTS.get(application, ()) if key_of(i) not in typed_keys]
    return [f"apply={application}", *defaults, *given]


def apply_digest(tree: dict[str, Any]) -> str:
    """Eight hex digits over everything that decides an application's result: the run, how it is
    evaluated, the application's settings and the coreset's place."""
    path = (tree.get("coreset") or {}).get("path")
    kept = {
        "run": digest({key: value for key, value in tree.items() if key != "apply"}),
        "evaluation": tree.get("evaluation"),
        "limit_test": (tree.get("dataset") or {}).get("limit_test"),
        "apply": tree.get("apply"),
        "coreset": path and str(Path(path).expanduser().resolve()),
    }
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def task(composed: DictConfig) -> None:
    """One job of Hydra's: parse, then run the application."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    overrides = [item for item in hydra_config.overrides.task if not item.startswith("hydra")]
    typed = [item for item in overrides if not item.startswith("apply=")]
    tree = plain(composed)
    command = shlex.join(["distill-apply", tree["apply"]["name"], *typed])
    folder = Path(hydra_config.runtime.output_dir)
    runs = [item for item in typed if key_of(item).split(".")[0] not in NOT_OF_A_RUN]
    with job_errors(hydra_config.mode == RunMode.MULTIRUN):
        try:
            settings = parse_apply(tree["apply"])
            rest = OmegaConf.create({k: v for k, v in tree.items() if k != "apply"})
            if tree["apply"]["name"] == "explain":
                from distill_cli.tasks.evaluate import parse_target

                config: Any = parse_target(rest)
            else:
                config = parse(rest)
            from distill_cli.tasks.apply import Application

            application = Application(
                settings, config, folder, command, apply_digest(tree),
                lambda changes: inner_job(runs, changes),
            )  # fmt: skip
            module = f"distill_cli.tasks.apply_{settings.name}"
            with locked(folder):
                importlib.import_module(module).run(application)
        except UserError:
            remove_if_unused(folder)
            raise


def inner_job(overrides: Sequence[str], changes: Sequence[str]) -> "Job":
    """The ordinary run `distill <overrides> <changes>`, changes winning, in its usual folder."""
    from distill_cli.tasks.job import Job

    changed = {key_of(item) for item in changes}
    replaced = {item.partition("=")[0] for item in changes if "." not in item.partition("=")[0]}
    kept = [
        item
        for item in overrides
        if key_of(item) not in changed and key_of(item).split(".")[0] not in replaced & GROUPS
    ]
    given = [*kept, *changes]
    composed = compose("config", given)
    name, place = run_folder(composed)
    return Job(parse(composed), name, place, shlex.join(["distill", *given]))


# Groups whose other choice makes typed values of the former one meaningless.
GROUPS = {"method", "init", "sampler", "kernel", "evaluation"}


def key_of(item: str) -> str:
    """The key of an override, without Hydra's + and ~."""
    return item.partition("=")[0].lstrip("+~")


if __name__ == "__main__":
    sys.exit(main())
