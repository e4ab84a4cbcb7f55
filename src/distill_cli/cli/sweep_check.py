"""Before the first job of `distill -m`: which jobs cannot run, for a reason their words tell."""

import shlex
from collections.abc import Iterator, Sequence

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.errors import UserError

FLAGS = ("-m", "--multirun")
SEARCHES = ("search=", "hydra/sweeper=")


def jobs(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Overrides of each job that Hydra's own sweeper will make; [] where a search decides, or where
    other flags or unreadable words are given (Hydra says what is wrong with them)."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    words = [word for word in arguments if word not in FLAGS]
    if len(words) == len(arguments) or any(word.startswith(("-", *SEARCHES)) for word in words):
        return []
    try:
        parsed = OverridesParser.create().parse_overrides(words)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException:
        return []
    return [tuple(job) for batch in batches for job in batch]


def refused(arguments: Sequence[str]) -> Iterator[str]:
    """A line for each job with a wrong choice, key or value. The others run nevertheless."""
    found = jobs(arguments)
    for number, words in enumerate(found):
        try:
            parse(compose("config", words))
        except UserError as error:
            own = [word for word in words if word not in arguments and "hydra" not in word]
            yield f"job {number} of {len(found)} cannot run ({shlex.join(own)}): {error}"
