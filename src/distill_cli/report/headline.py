"""Which of a run's evaluations stands for the run."""

from distill_cli.report.published import published_for
from distill_cli.report.run_result import Evaluation, RunResult


def headline(result: RunResult) -> Evaluation | None:
    """The evaluation to put first, among those with an accuracy; None where there is none.

    One with a published figure; else regression with the exact kernel that the coreset was
    distilled for (KIP, Label Solve: `kernel=ntk` or nngp); else the first.
    """
    usable = [e for e in result.evaluations if e.accuracy is not None]
    trained = f"krr_{result.option('kernel', 'name')}"
    own = [e for e in usable if e.protocol == trained]
    known = [e for e in usable if published_for(result, e)]
    return next(iter([*known, *own, *usable]), None)
