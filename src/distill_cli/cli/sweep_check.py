"""Before the first job of `distill -m`: which jobs cannot run, for a reason their words tell."""

import shlex
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from distill_cli.cli.compose import compose
from distill_cli.cli.errors import one_line
from distill_cli.config import parse
from distill_cli.errors import UserError

FLAGS = ("-m", "--multirun")
SEARCHES = ("search=", "hydra/sweeper=")


def jobs(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Overrides of each job that Hydra's own sweeper will make; [] where a search decides, or where
    other flags or unreadable words are given (Hydra says what is wrong with them)."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [word for word in arguments if word not in FLAGS]
    if len(words) == len(arguments) or any(word.startswith(("-", *SEARCHES)) for word in words):
        return []
    try:
        parsed = OverridesParser.create().parse_overrides(words)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException:
        return []
    return [tuple(job) for batch in batches for job in batch]


def refused(arguments: Sequence[str]) -> list[str]:
    """A line for each job with a wrong choice, key or value; the others run nevertheless.

    Raises UserError where all jobs are refused for one and the same reason.
    """
    found = jobs(arguments)
    reasons = {number: text for number, words in enumerate(found) if (text := reason(words))}
    if len(reasons) == len(found) > 1 and len(set(reasons.values())) == 1:
        raise UserError(reasons[0])
    lines = []
    for number, text in reasons.items():
        own = shlex.join(word for word in found[number] if word not in arguments)
        lines.append(f"job {number} of {len(found)} cannot run ({own}): {text}")
    return lines


def reason(words: Sequence[str]) -> str:
    """Why a job cannot run, as far as its words tell; "" if it can."""
    try:
        parse(compose("config", words))
    except UserError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        return one_line(error)
    return ""
