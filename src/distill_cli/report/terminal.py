"""What a run prints when it ends: accuracies, the baseline, the published figure."""

from collections.abc import Mapping
from typing import Any

from distill_cli.report import words
from distill_cli.report.published import published_for
from distill_cli.report.results import (
    baseline,
    clear_gain,
    evaluations,
    gain,
    kept_step,
    section,
    seen_in_training,
    shows_balanced,
)

HEAD = (
    "protocol", "accuracy", "balanced", "random real", "balanced real", "gain", "published", "nll",
    "ece", "time",
)  # fmt: skip


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row of text per evaluation, in the columns of HEAD; accuracies in percent. Balanced ones
    are left out where they say nothing new (results.shows_balanced)."""
    balanced = shows_balanced(result)

    def mean_of_classes(part: Mapping[str, Any]) -> str:
        return words.percent(part.get("balanced_accuracy")) if balanced else words.NONE

    return [
        (
            str(e.get("protocol", words.NONE)),
            words.percent(e.get("accuracy"), e.get("std")),
            mean_of_classes(e),
            words.percent(baseline(e).get("accuracy"), baseline(e).get("std")),
            mean_of_classes(baseline(e)),
            words.points(gain(e), clear_gain(e)),
            known.text() if (known := published_for(result, e)) else words.NONE,
            words.decimal(e.get("nll")),
            words.decimal(e.get("ece"), 3),
            words.duration(e.get("seconds")),
        )
        for e in evaluations(result)
    ]


def summary(result: Mapping[str, Any]) -> str:
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


def _notes(result: Mapping[str, Any]) -> list[str]:
    found = evaluations(result)
    sources = {known.source: None for e in found if (known := published_for(result, e))}
    lines = [f"  published: {source}" for source in sources]
    if not all(map(clear_gain, found)):
        lines.append(f"  {words.UNCLEAR}")
    if shows_balanced(result):
        with_classes = next((e for e in found if e.get("per_class")), {})
        lines.append(f"  {words.balanced_note(with_classes)}")
    lines += [f"  {note}" for note in dict.fromkeys(map(words.untested_note, found)) if note]
    seconds, best = section(result, "seconds"), words.count(result.get("best_step"))
    facts = []
    if best != words.NONE:
        facts.append(f"{kept_step(result)} step {best} of {words.count(result.get('steps'))}")
    if seen_in_training(result):
        facts.append("validation images took part in distilling")
    if (total := words.duration(seconds.get("total"))) != words.NONE:
        distilling = words.duration(seconds.get("distill"))
        part = "" if distilling == words.NONE else f", {distilling} distilling"
        facts.append(f"{total} in all{part}")
    return lines + ([f"  {'; '.join(facts)}"] if facts else [])
