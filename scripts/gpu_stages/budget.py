"""How the seconds of a campaign are shared out among its stages.

    limit(a, b, c) = min(share * budget, left - reserve)      reserve: shares of e and f to come
    limit(d)       = left - reserve
    limit(e, f)    = left - reserve                           so that nothing stays unused
    limit(given)   = min(its seconds, left)                   `--stages a=90`

left is what remains of the budget less CLOSING, the time kept for ending processes and writing.
A stage that ends early leaves its time to those behind it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

STAGES = ("a", "b", "c", "d", "e", "f")
SHARES = {"a": 0.20, "b": 0.20, "c": 0.13, "e": 0.09, "f": 0.07}
RESERVED = ("e", "f")  # behind stage d, which takes all that is left
CLOSING = 6.0  # seconds
GRACE = {"d": 12.0, "e": 12.0}  # seconds to end well, within the limit; others have LITTLE_GRACE
LITTLE_GRACE = 2.0
LEAST = 5.0  # a stage with less is not started


@dataclass
class Budget:
    """Seconds of a whole campaign, counted from its creation; `clock` is monotonic."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    given: Mapping[str, float] = field(default_factory=dict)  # stage -> its own seconds
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.begun

    def left(self) -> float:
        """Seconds that stages may still take."""
        return max(0.0, self.seconds - self.spent() - CLOSING)

    def reserve(self, later: Sequence[str]) -> float:
        """Seconds kept for the stages still to come that have a fixed share."""
        own = self.given
        fixed = [stage for stage in later if stage in RESERVED or stage in own]
        return sum(own.get(stage, SHARES.get(stage, 0.0) * self.seconds) for stage in fixed)

    @staticmethod
    def grace(stage: str, limit: float) -> float:
        """Seconds before its limit at which a stage is asked to end."""
        return min(GRACE.get(stage, LITTLE_GRACE), limit / 3)

    def limit(self, stage: str, later: Sequence[str]) -> float:
        """Seconds that `stage` may take; later: the chosen stages behind it."""
        if stage in self.given:
            return min(self.given[stage], self.left())
        free = max(0.0, self.left() - self.reserve(later))
        takes_the_rest = stage == "d" or stage in RESERVED or not later
        return free if takes_the_rest else min(SHARES[stage] * self.seconds, free)
