"""What `distill -m` prints at its end: the table of its jobs, means over seeds, what failed."""

import shlex
from collections.abc import Sequence

from distill_cli.core.stats import mean_std
from distill_cli.report.json_values import number
from distill_cli.report.words import NONE, duration
from distill_cli.tables.render import aligned
from distill_cli.tasks.sweep_files import NOT_STARTED, Line, over_seeds, protocols, states


def describe(lines: Sequence[Line]) -> list[str]:
    """The lines of it, the numbers of jobs in each state last."""
    return [*text_table(lines), *seed_means(lines), *ending(lines), summary(lines)]


def summary(lines: Sequence[Line]) -> str:
    """How many jobs ended in each state: the counts add up to the number of jobs."""
    counts = ", ".join(f"{count} {state}" for state, count in states(lines).items())
    return f"{len(lines)} job{'s' if len(lines) > 1 else ''}: {counts}"


def text_table(lines: Sequence[Line]) -> list[str]:
    """One aligned line for each job; one for all trials that a search has not chosen yet."""
    names = protocols(lines)
    head = ("settings", "status", "steps", "validation", *names, "time")

    def shown(value: object) -> str:
        found = number(value)
        return NONE if found is None else f"{100 * found:.2f} %"

    def row(line: Line) -> tuple[str, ...]:
        about = line.about
        return (
            about["settings"], about["status"],
            NONE if about["steps"] is None else str(about["steps"]), shown(about["validation"]),
            *(shown(line.measured.get(name, {}).get("accuracy")) for name in names),
            duration(about["seconds"]),
        )  # fmt: skip

    chosen = [line for line in lines if line.about["command"]]
    rows = [row(line) for line in chosen]
    if more := len(lines) - len(chosen):
        rows.append((f"({more} more)", NOT_STARTED, *[NONE] * (len(head) - 2)))
    return aligned(head, tuple(rows))


def seed_means(lines: Sequence[Line]) -> list[str]:
    """Mean and deviation of accuracies over the seeds of jobs that are alike otherwise."""
    said = []
    for name, group in over_seeds(lines).items():
        done = [line for line in group if line.about["status"] == "done"]
        parts = []
        for protocol in protocols(done):
            found = [line.measured.get(protocol, {}).get("accuracy") for line in done]
            values = [100 * value for value in found if value is not None]
            if len(values) > 1:
                mean, std, _ = mean_std(values)
                parts.append(f"{protocol} {mean:.2f} ± {std:.2f} %")
        if parts:
            said.append(f"  over {len(done)} seeds, {name}: {', '.join(parts)}")
    return ["", *said] if said else []


def ending(lines: Sequence[Line]) -> list[str]:
    """The best trial by its validation score, and what failed."""
    said = []
    rows = [line.about for line in lines]
    searched = [row for row in rows if "search=" in row["command"]]
    scored = [row for row in searched if number(row["validation"]) is not None]
    if scored:
        over = [row for row in scored if row["status"] == "done"]
        best = max(over or scored, key=lambda row: row["validation"])
        words = [
            w for w in shlex.split(best["command"]) if not w.startswith(("search=", "tuning."))
        ]
        said.append(f"best validation: {best['settings']}; to measure it on test data:")
        said.append(f"  {shlex.join([*words, 'validation.disjoint=true'])}")
    for state in ("failed", "stopped"):
        found = [row for row in rows if row["status"] == state]
        if found:
            said.append(f"{len(found)} of {len(rows)} jobs {state}:")
            said += [f"  {row['settings']}: {row['error']}" for row in found]
    return ["", *said, ""] if said else [""]
