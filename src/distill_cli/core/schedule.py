"""Rates that change over a run, the same for every method: a factor of all its learning rates.

    constant        1
    cosine          final + (1 - final) (1 + cos(pi t / T)) / 2          (Loshchilov & Hutter 2017)
    warmup_cosine   1/w .. 1 in the first w = warmup T steps, then the cosine over the rest

t: the step, from 0; T: steps of the run. Factors come from optax; a method passes each of its
rates through `Schedule`, and where the schedule is constant gets back the number itself, so that
the optimiser, its state and its bits are those without a schedule.
"""

from dataclasses import dataclass

import optax

from distill_cli.config import Config


@dataclass(frozen=True)
class Schedule:
    """name: constant, cosine or warmup_cosine; steps: T; warmup: share of T; final: last factor."""

    name: str = "constant"
    steps: int = 1
    warmup: float = 0.05
    final: float = 0.01

    @classmethod
    def of(cls, config: Config) -> "Schedule":
        """The schedule of a run; one of no step has rates all the same."""
        steps = max(1, config.steps)
        return cls(config.schedule, steps, config.schedule_warmup, config.schedule_final)

    @property
    def constant(self) -> bool:
        """Whether rates stay as they are."""
        return self.name == "constant"

    def __call__(self, rate: float) -> optax.ScalarOrSchedule:
        """`rate`, or the function of the step that optax's optimisers take in its place."""
        if self.constant:
            return rate
        if self.name == "cosine":
            return optax.cosine_decay_schedule(rate, self.steps, alpha=self.final)
        warmup = min(max(1, round(self.warmup * self.steps)), self.steps - 1)
        if warmup < 1:  # a run of one step
            return rate
        return optax.warmup_cosine_decay_schedule(
            rate / warmup, rate, warmup, self.steps, end_value=self.final * rate
        )
