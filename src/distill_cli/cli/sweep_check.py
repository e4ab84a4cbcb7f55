"""Before the first job of `distill -m`: what its jobs are, which of them cannot run, for a reason
their words tell, and which are one run."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from distill_cli.cli.compose import compose
from distill_cli.cli.messages import one_line
from distill_cli.config import parse
from distill_cli.errors import UserError
from distill_cli.naming import NOT_IN_DIGEST
from distill_cli.tasks.sweep import plan

FLAGS = ("-m", "--multirun")
SEARCHES = ("search=", "hydra/sweeper=")


def jobs(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Overrides of each job that Hydra's own sweeper will make; [] where a search decides, or where
    other flags or unreadable words are given (Hydra says what is wrong with them)."""
    words = [word for word in arguments if word not in FLAGS]
    if len(words) == len(arguments) or any(word.startswith(("-", *SEARCHES)) for word in words):
        return []
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(words)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException:
        return []
    return [tuple(job) for batch in batches for job in batch]


def refused(arguments: Sequence[str]) -> list[str]:
    """A line for each job with a wrong value; the others run nevertheless. What is to be run is
    noted in the sweep's folder.

    Raises UserError for a choice or key that some job does not have, because Hydra then runs no
    job, for a job that repeats another or is the same run as another, and where all jobs are
    refused for one and the same reason.
    """
    found, lines, reasons = jobs(arguments), [], set()
    planned: list[tuple[str, Path]] = []
    runs: dict[Path, int] = {}
    if not found:
        plan([], trials(arguments))
    for number, words in enumerate(found):
        where = place(found, number, arguments)
        if found.index(words) < number:
            raise UserError(f"{where}: the same as job {found.index(words)}")
        try:
            composed = compose("config", words)
        except UserError as error:
            raise UserError(f"{where}: {error}" if len(found) > 1 else str(error)) from error
        folder = Path()
        try:
            parse(composed)
            folder = Path(composed.hydra.sweep.dir, composed.hydra.sweep.subdir)
            if (first := runs.setdefault(folder, number)) != number:
                raise one_run(found, first, number, arguments)
        except (UserError, OmegaConfBaseException) as error:
            if isinstance(error, SameRun):
                raise
            text = str(error) if isinstance(error, UserError) else one_line(error)
            reasons.add(text)
            lines.append(f"{where} cannot run: {text}")
        own = [word for word in words if not word.startswith(("hydra", "rerun="))]
        planned.append((shlex.join(["distill", *own]), folder))
    if found and len(lines) == len(found) and len(reasons) == 1:
        raise UserError(reasons.pop())
    if found:
        plan(planned)
    return lines


class SameRun(UserError):
    """Two jobs of a sweep are one run."""


def place(found: Sequence[tuple[str, ...]], number: int, arguments: Sequence[str]) -> str:
    """A job in words: its number and the overrides that are its own."""
    own = shlex.join(word for word in found[number] if word not in arguments)
    return f"job {number} of {len(found)}" + (f" ({own})" if own else "")


def one_run(
    found: Sequence[tuple[str, ...]], first: int, second: int, arguments: Sequence[str]
) -> SameRun:
    """Two jobs with one result folder: they would overwrite, or wait for, one another."""
    differing = set(found[first]) ^ set(found[second])
    keys = sorted({word.partition("=")[0].lstrip("+") for word in differing})
    other = shlex.join(word for word in found[first] if word in differing)
    verb = "does" if len(keys) == 1 else "do"
    return SameRun(
        f"{place(found, second, arguments)}: the same run as job {first} ({other}), because "
        f"{' and '.join(keys)} {verb} not make another run; give one value"
    )


def trials(arguments: Sequence[str]) -> int:
    """How many trials a search makes at most; 0 where there is none, or where Hydra says what is
    wrong with it.

    Raises UserError where it varies a key that makes no other run.
    """
    words = [word for word in arguments if word not in FLAGS]
    if len(words) == len(arguments) or not any(word.startswith(SEARCHES) for word in words):
        return 0
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except HydraException:
        return 0
    for one in parsed:
        key = str(one.key_or_group)
        if one.is_sweep_override() and key.partition(".")[0] in NOT_IN_DIGEST:
            raise UserError(
                f"{key}: a search over it makes one run again and again, because {key} does not "
                "make another run; give one value"
            )
    fixed = [str(one.input_line) for one in parsed if not one.is_sweep_override()]
    try:
        return int(compose("config", fixed).hydra.sweeper.n_trials)
    except (UserError, OmegaConfBaseException, ValueError, TypeError):
        return 0
