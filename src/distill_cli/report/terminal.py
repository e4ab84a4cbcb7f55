"""What a run prints when it ends: accuracies, the baseline, the published figure."""

from distill_cli.report import words
from distill_cli.report.published import published_for
from distill_cli.report.run_result import Measured, RunResult

HEAD = (
    "protocol", "accuracy", "balanced", "random real", "balanced real", "gain", "published", "nll",
    "ece", "time",
)  # fmt: skip


def rows(result: RunResult) -> list[tuple[str, ...]]:
    """One row of text per evaluation, in the columns of HEAD; accuracies in percent. Balanced ones
    are left out where they say nothing new (RunResult.shows_balanced)."""
    balanced = result.shows_balanced

    def mean_of_classes(part: Measured) -> str:
        return words.percent(part.balanced_accuracy) if balanced else words.NONE

    return [
        (
            e.protocol or words.NONE,
            words.percent(e.accuracy, e.std),
            mean_of_classes(e),
            words.percent(e.real.accuracy, e.real.std),
            mean_of_classes(e.real),
            words.points(e.gain, e.clear_gain),
            known.text() if (known := published_for(result, e)) else words.NONE,
            words.decimal(e.nll),
            words.decimal(e.ece, 3),
            words.duration(e.seconds),
        )
        for e in result.evaluations
    ]


def summary(result: RunResult) -> str:
    """A block of plain text: title, one aligned line per evaluation, source of published figures.

    Columns without any value are left out.
    """
    lines = [words.run_title(result)]
    found = rows(result)
    if found:
        table = _filled([HEAD, *found])
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        for row in table:
            cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
            cells[0] = row[0].ljust(widths[0])
            lines.append("  " + "  ".join(cells).rstrip())
    else:
        lines.append("  not evaluated")
    return "\n".join(lines + _notes(result))


def _filled(table: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    columns = [
        c
        for c in zip(*table, strict=True)
        if c[0] in ("protocol", "accuracy") or set(c[1:]) != {words.NONE}
    ]
    return list(zip(*columns, strict=True))


def _notes(result: RunResult) -> list[str]:
    found = result.evaluations
    sources = {known.source: None for e in found if (known := published_for(result, e))}
    lines = [f"  published: {source}" for source in sources]
    if not all(e.clear_gain for e in found):
        lines.append(f"  {words.UNCLEAR}")
    if result.shows_balanced:
        with_classes = next((e for e in found if e.classes), None)
        lines.append(f"  {words.balanced_note(with_classes)}")
    lines += [f"  {note}" for note in dict.fromkeys(map(words.untested_note, found)) if note]
    best = words.count(result.best_step)
    facts = []
    if best != words.NONE:
        facts.append(f"{result.kept} step {best} of {words.count(result.steps)}")
    if result.seen_in_training:
        facts.append("validation images took part in distilling")
    if (total := words.duration(result.seconds.get("total"))) != words.NONE:
        distilling = words.duration(result.seconds.get("distill"))
        part = "" if distilling == words.NONE else f", {distilling} distilling"
        facts.append(f"{total} in all{part}")
    return lines + ([f"  {'; '.join(facts)}"] if facts else [])
