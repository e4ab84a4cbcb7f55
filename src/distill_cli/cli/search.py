"""search=optuna without ranges: those of the method, shown before the first trial."""

import shlex
from collections.abc import Sequence

from distill_cli.cli.compose import compose
from distill_cli.errors import UserError

SEARCH = "search=optuna"


def with_space(arguments: Sequence[str]) -> list[str]:
    """The words of `distill -m search=optuna ...`, with the ranges of `tuning.space` behind them
    where none are typed; other words as they are.

    Raises UserError where there is nothing to search: every trial would be the same.
    """
    words = list(arguments)
    if SEARCH not in words or not {"-m", "--multirun"} & set(words) or has_ranges(words):
        return words
    given = [word for word in words if not word.startswith(("-", "hydra"))]
    tree = compose("config", given)
    space = [f"{key}={value}" for key, value in tree.tuning.space.items()]
    typed = {word.partition("=")[0] for word in given}
    space = [word for word in space if word.partition("=")[0] not in typed]
    if not space:
        raise UserError(
            f"{SEARCH}: nothing to search for method={tree.method.name}; give ranges, e.g. "
            '"method.ridge=tag(log,interval(1e-4,1e-1))"'
        )
    print(f"searching {shlex.join(space)} (ranges that you type replace them)", flush=True)
    return [*words, *space]


def has_ranges(words: Sequence[str]) -> bool:
    """Whether a word is a range or several values; True for words that Hydra cannot read, so that
    it says what is wrong with them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    plain = [word for word in words if not word.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(plain)
    except HydraException:
        return True
    return any(
        one.is_sweep_override() or str(one.key_or_group).startswith("hydra.sweeper.params")
        for one in parsed
    )
