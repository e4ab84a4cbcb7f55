"""Which of a run's evaluations stands for the run."""

from collections.abc import Mapping
from typing import Any

from distill_cli.report.published import published_for
from distill_cli.report.results import evaluations, number, section


def headline(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation to put first, among those with an accuracy; None where there is none.

    One with a published figure; else regression with the exact kernel that the coreset was
    distilled for (KIP, Label Solve: `kernel=ntk` or nngp); else the first.
    """
    usable = [e for e in evaluations(result) if number(e.get("accuracy")) is not None]
    trained = f"krr_{section(section(result, 'config'), 'kernel').get('name')}"
    own = [e for e in usable if e.get("protocol") == trained]
    known = [e for e in usable if published_for(result, e)]
    return next(iter([*known, *own, *usable]), None)
