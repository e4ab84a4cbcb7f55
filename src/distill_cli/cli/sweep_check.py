"""Before the first job of `distill -m`: which jobs cannot run, for a reason their words tell."""

import shlex
from collections.abc import Sequence

from omegaconf.errors import OmegaConfBaseException

from distill_cli.cli.compose import compose
from distill_cli.cli.messages import one_line
from distill_cli.config import parse
from distill_cli.errors import UserError

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
    """A line for each job with a wrong value; the others run nevertheless.

    Raises UserError for a choice or key that some job does not have, because Hydra then runs no
    job, for a job that repeats another, and where all jobs are refused for one and the same reason.
    """
    found, lines, reasons = jobs(arguments), [], set()
    for number, words in enumerate(found):
        own = shlex.join(word for word in words if word not in arguments)
        where = f"job {number} of {len(found)}" + (f" ({own})" if own else "")
        if found.index(words) < number:
            raise UserError(f"{where}: the same as job {found.index(words)}")
        try:
            composed = compose("config", words)
        except UserError as error:
            raise UserError(f"{where}: {error}" if len(found) > 1 else str(error)) from error
        try:
            parse(composed)
        except (UserError, OmegaConfBaseException) as error:
            text = str(error) if isinstance(error, UserError) else one_line(error)
            reasons.add(text)
            lines.append(f"{where} cannot run: {text}")
    if len(lines) == len(found) and len(reasons) == 1:
        raise UserError(reasons.pop())
    return lines
