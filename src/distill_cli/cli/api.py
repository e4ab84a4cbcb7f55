"""distill() and evaluate() for Python: the commands' options and results."""

import shlex
from typing import Any

from distill_cli.cli.compose import as_override, compose, coreset_override, run_folder
from distill_cli.config import parse


def distill(*overrides: str, **options: Any) -> dict[str, Any]:
    """Run the command `distill` and return its result.json as a dict, with the key "folder".

    overrides: as typed, e.g. "method=rfad", "kernel.networks=4". options: the same as keywords,
    e.g. ipc=10, evaluation=["krr_nngp"]; dotted keys need overrides. A run that exists is resumed,
    and a finished one is returned at once. Turns on jax's 64-bit mode. Raises
    distill_cli.errors.UserError on wrong input.
    """
    given = [*overrides, *(as_override(key, value) for key, value in options.items())]
    composed = compose("config", given)
    digest, folder = run_folder(composed)
    config = parse(composed)
    from distill_cli.tasks.distill import run
    from distill_cli.tasks.job import Job

    return run(Job(config, digest, folder, shlex.join(["distill", *given])))


def evaluate(coreset: Any, *overrides: str, **options: Any) -> list[dict[str, Any]]:
    """Run the command `distill-evaluate` on a run folder or coreset file; one dict per protocol.

    Options as for the command: evaluate(path, "dataset=cifar10", evaluation=["krr_nngp"]).
    """
    from distill_cli.cli.evaluate import with_run_settings

    given = [*overrides, *(as_override(key, value) for key, value in options.items())]
    given = with_run_settings([coreset_override(str(coreset)), *given])
    composed = compose("evaluate", given)
    from distill_cli.tasks.evaluate import parse_target, run

    _, folder = run_folder(composed)
    return run(parse_target(composed), folder, shlex.join(["distill-evaluate", *given]))[
        "evaluations"
    ]
