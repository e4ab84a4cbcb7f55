"""The command `distill-theory`."""

import logging
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.cli.compose import as_override
from distill_cli.cli.errors import exit_codes, job_errors
from distill_cli.cli.help.answer import answered
from distill_cli.config import config_dir, plain
from distill_cli.core.files import check_out
from distill_cli.core.lock import remove_if_unused
from distill_cli.errors import UserError, choice_error
from distill_cli.naming import register_resolvers
from distill_cli.typed import convert, out_folder

TASKS = ("cell", "study", "report", "retrain")
OWN = ("task", "study", "artefact", "results", "slow", "progress", "out")  # not of a cell


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 cannot write, 2 wrong input, 128 + signal when stopped."""
    if answered("distill-theory", sys.argv[1:]):
        return
    import hydra

    register_resolvers()
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    name = "theory_subspace" if word == "subspace" else "theory"
    with exit_codes(name):
        if word == "subspace":
            from distill_cli.cli.evaluate import with_run_settings

            sys.argv[1:] = with_run_settings(sys.argv[2:])
            job = subspace_task
        else:
            sys.argv[1:] = with_task(sys.argv[1:])
            job = task
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)(job)()


def with_task(arguments: Iterable[str]) -> list[str]:
    """A leading word names the task: `report`, `retrain`; paths are quoted for Hydra."""
    typed = list(arguments)
    if typed and "=" not in typed[0] and not typed[0].startswith(("-", "+", "~")):
        if typed[0] not in TASKS:
            raise choice_error("task", typed[0], (*TASKS, "subspace"))
        typed[0] = f"task={typed[0]}"
    paths = ("artefact", "link", "results", "out")
    for index, argument in enumerate(typed):
        key, equals, value = argument.partition("=")
        if equals and key in paths and value[:1] not in ("'", '"'):
            typed[index] = as_override(key, value)
    return typed


def task(composed: DictConfig) -> float:
    """One job of Hydra's: a cell, a study, the report, or the student of a distilled file."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    with job_errors(HydraConfig.get().mode == RunMode.MULTIRUN):
        tree = plain(composed)
        own = {key: tree.pop(key) for key in OWN}
        if own["task"] not in TASKS:
            raise choice_error("task", own["task"], TASKS)
        if own["progress"] not in ("auto", "none"):
            raise choice_error("progress", own["progress"], ("auto", "none"))
        say = print_nothing if own["progress"] == "none" else print_now
        out = out_folder(str(own["out"] or ""))
        check_out(out)
        slow = convert(bool, own["slow"], "slow")
        if own["task"] == "retrain":
            return retrain(own["artefact"], say)
        if own["task"] == "report":
            return report(out, own["results"], say)
        if own["study"] is not None or own["task"] == "study":
            seeds = seeds_of_studies(HydraConfig.get().overrides.task, tree)
            chosen = "all" if own["study"] is None else own["study"]
            return studies(chosen, out, slow, say, seeds)
        return cell(tree, out, say)


def cell(tree: dict[str, Any], out: Path, say: Any) -> float:
    """Run one cell and print its row."""
    from distill_cli.theory import study

    config = study.cell(tree)  # wrong values end here, before jax is imported
    from distill_cli.tasks import theory

    result = theory.run(config, out)
    say(theory.show(result))
    return float(result["rows"][0]["mse_d1_ridge"])


def seeds_of_studies(overrides: Iterable[str], tree: dict[str, Any]) -> Any:
    """The seeds typed beside study=, None for those of its file. UserError for another key of a
    cell: a study sets them itself."""
    typed = {text.split("=")[0].lstrip("+~") for text in overrides} & set(tree)
    for key in sorted(typed - {"seed"}):
        raise UserError(f"{key}={tree[key]}: not beside study=, which sets it; only seed is")
    if "seed" in typed and tree["seed"] is None:
        raise UserError("seed=null: give a number or a list, or leave it out for the study's own")
    return tree["seed"] if "seed" in typed else None


def studies(names: str | list[str], out: Path, slow: bool, say: Any, seeds: Any = None) -> float:
    """Run studies, then write the report."""
    from distill_cli.theory import study

    chosen = names if isinstance(names, list) else [str(names)]
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"study={chosen}: give one or more different names, or all")
    chosen = study.names() if chosen == ["all"] else chosen
    for each in chosen:
        study.expand(study.load(each), slow, seeds)
    from distill_cli.tasks import theory

    memory = theory.Memory(theory.SHARED)
    for each in chosen:
        theory.run_study(each, out, slow, say, memory, seeds)
    return report(out, None, say)


def report(out: Path, results: str | None, say: Any) -> float:
    """Tables, figures and the page, from the results of studies."""
    from distill_cli.report.theory import write_report

    folder = out / "theory" / "studies" if results is None else Path(str(results)).expanduser()
    say(f"report   {write_report(folder, out / 'theory' / 'report')}")
    return 0.0


def retrain(artefact: str | None, say: Any) -> float:
    """Train the student from a distilled file."""
    if not artefact:
        raise UserError("artefact: missing; give artefact=<distilled_seed0.npz of a cell>")
    from distill_cli.tasks import theory

    return theory.retrain(str(artefact), say)["mse_d1_d2"]


def subspace_task(composed: DictConfig) -> float:
    """distill-theory subspace: directions of a coreset of images."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    command = shlex.join(["distill-theory", "subspace", *hydra_config.overrides.task])
    folder = Path(hydra_config.runtime.output_dir)
    with job_errors(hydra_config.mode == RunMode.MULTIRUN):
        from distill_cli.tasks import theory_subspace

        try:
            result = theory_subspace.run(composed, folder, command)
        except UserError:
            remove_if_unused(folder)
            raise
        if composed.progress != "none":
            print(theory_subspace.show(result))
            print(f"result   {folder / 'subspace.json'}")
    return float(result["tables"]["pixel"]["coreset"]["overlap"]["mean"])


def print_now(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def print_nothing(text: str) -> None:
    """progress=none."""


if __name__ == "__main__":
    sys.exit(main())
