"""The command `distill`."""

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from distill_cli.cli.errors import exit_codes, job_errors, shows
from distill_cli.cli.help.answer import answered
from distill_cli.cli.search import with_space
from distill_cli.cli.sweep_check import refused
from distill_cli.config import config_dir, parse, plain
from distill_cli.core import hosts
from distill_cli.core.host_place import place
from distill_cli.core.lock import remove_if_unused
from distill_cli.errors import UserError
from distill_cli.naming import digest, register_resolvers
from distill_cli.report.parse import parse_result
from distill_cli.tasks.sweep import TrialPruned, journal, recorded, sweep

SWEEPS = ("-m", "--multirun", "hydra.mode=MULTIRUN")


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong input, 128 + signal when stopped."""
    if answered("distill", sys.argv[1:]):
        return
    import hydra

    register_resolvers()
    # Hydra's parser refuses overrides on both sides of a flag.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    one_run = not set(SWEEPS) & set(sys.argv[1:])
    with exit_codes("config", several=one_run), connected(), sweep(sys.argv[1:]):
        sys.argv[1:] = with_space(sys.argv[1:])
        for line in refused(sys.argv[1:]):
            print(f"note: {line}", file=sys.stderr, flush=True)
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(task)()
        hosts.finish()


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Connect the processes of one run; does nothing for one process.

    Hydra writes for process 0 only. Where the command only shows something, process 0 shows it.
    """
    here = place(os.environ)
    if here is None:
        yield
        return
    words = sys.argv[1:]
    if shows(words):
        if here.index:
            sys.exit(0)
        yield
        return
    hosts.start()
    if here.index == 0:
        yield
        return
    # A folder that exists, and nothing to write there.
    own = [f"hydra.run.dir={tempfile.gettempdir()}", "hydra.output_subdir=null"]
    # Hydra's parser refuses overrides on both sides of a flag, and the last one wins.
    last = max((at for at, word in enumerate(words, 1) if "=" in word), default=0)
    sys.argv[1:] = [*words[:last], *own, *words[last:]]
    yield


def task(composed: DictConfig) -> float | None:
    """One job of Hydra's: parse, then run.

    Returns the validation accuracy, for sweepers: nothing is ever chosen by test accuracy. None
    where there is none (method=full).
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    given = hydra_config.overrides.task
    overrides = [item for item in given if not item.startswith(("hydra", "rerun="))]
    command = shlex.join(["distill", *overrides])
    several = hydra_config.mode == RunMode.MULTIRUN
    book = None
    if several:
        print(f"\n== job {hydra_config.job.num}: {command}", flush=True)
        book = journal(hydra_config.job.num, command, folder)
    with job_errors(several):
        try:
            with recorded(book):
                config = parse(composed)
                if hydra_config.runtime.choices.get("search", "none") != "none" and not several:
                    raise UserError("search=optuna: needs -m, which makes trials")
                from distill_cli.tasks.distill import run
                from distill_cli.tasks.job import Job

                result = run(Job(config, digest(plain(composed)), folder, command))
        except TrialPruned as pruned:
            print(pruned, flush=True)
            return pruned.score
        except UserError:
            if hosts.first():
                remove_if_unused(folder)
            raise
    if not hosts.first():
        return None
    score = parse_result(result).validation.accuracy
    if book is not None:
        book.write("done", score=score)
    return score


if __name__ == "__main__":
    sys.exit(main())
