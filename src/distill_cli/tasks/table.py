"""task table: run the cells of a table that are missing, several at once, and say what failed.

Every seed of a cell is a process of its own: what fails, fails alone, and times and peak memory
are those of the cell. What is finished is recognised by its result.json, so the same command goes
on after any interruption.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill_cli.config import at_least
from distill_cli.core.lock import is_locked
from distill_cli.errors import RunStopped
from distill_cli.report.words import duration
from distill_cli.tables.runs import (
    Locate,
    SeedRun,
    pending_snapshots,
    quoted,
    seed_run,
    unusable,
)
from distill_cli.tables.spec import Cell, Table
from distill_cli.tasks.table_jobs import Child
from distill_cli.train.signals import StopRequest, stop_requests

NEWS_SECONDS = 30.0
POLL_SECONDS = 0.2
GO_ON = ("missing", "unfinished", "unmeasured", "broken")


@dataclass(frozen=True)
class Settings:
    """out: folder of results; jobs: processes at once; more: overrides of every command; launcher:
    a Hydra launcher that gets all open seeds of a cell as one sweep, "" for plain processes."""

    out: Path
    jobs: int = 1
    more: tuple[str, ...] = ()
    launcher: str = ""

    def __post_init__(self) -> None:
        at_least("jobs", self.jobs, 1)

    @property
    def setting(self) -> tuple[str, ...]:
        """Overrides that decide results: those of Hydra do not."""
        return tuple(word for word in self.more if not word.startswith("hydra"))


@dataclass
class Work:
    """Commands that have to follow one another: seeds of a cell that share a folder or a sweep."""

    cell: Cell
    seeds: tuple[int, ...]
    folder: Path | None
    todo: list[list[str]] = field(default_factory=list)
    measured: set[Path] = field(default_factory=set)
    child: Child | None = None

    @property
    def name(self) -> str:
        return f"{self.cell.name} seed {','.join(map(str, self.seeds))}"


@dataclass(frozen=True)
class Outcome:
    """How a table's run ended: (cell and seed, reason) of failures, and how many were there."""

    failures: tuple[tuple[str, str], ...]
    done: int
    before: int
    skipped: tuple[str, ...]


def run_table(
    table: Table, settings: Settings, locate: Locate, say: Callable[[str], None] = print
) -> Outcome:
    """Run what is missing. Raises RunStopped on a signal, after all children have saved."""
    runner = Runner(table, settings, locate, say)
    with stop_requests() as stop:
        return runner.run(stop)


class Runner:
    """The state of one `distill-table run`."""

    def __init__(
        self, table: Table, settings: Settings, locate: Locate, say: Callable[[str], None]
    ) -> None:
        self.table, self.settings, self.locate, self.say = table, settings, locate, say
        self.logs = settings.out / "tables" / table.name
        self.failures: list[tuple[str, str]] = []
        self.done = self.before = 0
        self.news = time.monotonic()

    def find(self, cell: Cell, seed: int) -> SeedRun:
        settings = self.settings
        return seed_run(cell, seed, settings.out, settings.setting, self.locate, thorough=True)

    def run(self, stop: StopRequest) -> Outcome:
        waiting, skipped = self.plan()
        self.total = len(waiting)
        active: list[Work] = []
        while waiting or active:
            if stop:
                self.stop_all(active)
                raise RunStopped(
                    f"{self.done} of {self.total} runs done; the same command goes on",
                    stop.exit_code,
                )
            for work in [work for work in active if self.ended(work)]:
                active.remove(work)
            while waiting and len(active) < self.settings.jobs:
                work = self.next_free(waiting, active)
                if work is None:
                    break
                waiting.remove(work)
                if self.begin(work):
                    active.append(work)
            self.tell(active, waiting)
            time.sleep(POLL_SECONDS)
        return Outcome(tuple(self.failures), self.done, self.before, tuple(skipped))

    def plan(self) -> tuple[list[Work], list[str]]:
        """What has to be run, and what cannot be."""
        for folder, reason in unusable(self.settings.out):
            self.say(f"skipped: {folder} ({reason})")
        waiting: list[Work] = []
        skipped = []
        for cell in self.table.cells:
            if not cell.command:
                skipped.append(f"{cell.name}: {cell.not_runnable}")
                continue
            runs = [
                self.find(cell, seed) for seed in (cell.seeds if cell.seeded else cell.seeds[:1])
            ]
            ready = [run for run in runs if run.state == "done" and not self.snapshots(cell, run)]
            self.before += len(ready)
            for run in ready:
                if run.other_version:
                    self.say(f"{cell.name} seed {run.seed}: measured with version {run.version}")
            wrong = [run for run in runs if run.state == "invalid"]
            for run in wrong:
                self.failures.append((f"{cell.name} seed {run.seed}", run.reason))
                self.say(f"cannot run: {cell.name} seed {run.seed}: {run.reason}")
            rest = [run for run in runs if run not in ready and run not in wrong]
            if self.settings.launcher and cell.sweeps:
                if rest:
                    waiting.append(Work(cell, tuple(run.seed for run in rest), None))
            else:
                waiting += [Work(cell, (run.seed,), run.folder) for run in rest]
        self.say(self.summary(waiting))
        return waiting, skipped

    def summary(self, waiting: Sequence[Work]) -> str:
        """ "3 runs are there, 12 to do, about 9 min (2 CPU cores)"."""
        times = [w.cell.time for w in waiting for _ in w.seeds]
        known = [t for t in times if t is not None]
        text = f"{self.table.name}: {self.before} runs are there, {len(times)} to do"
        if known:
            text += f", about {duration(sum(t.seconds for t in known))}"
            text += f" one after another on {known[0].device}"
            text += "" if len(known) == len(times) else f" for {len(known)} of them"
        return text

    def snapshots(self, cell: Cell, run: SeedRun) -> list[Path]:
        return [path for _, path in pending_snapshots(cell, run)]

    def next_free(self, waiting: Sequence[Work], active: Sequence[Work]) -> Work | None:
        """The first whose folder no process works on, of ours or of another table's."""
        taken = {work.folder for work in active} - {None}
        commands = {work.cell.command for work in active if not work.cell.seeded}
        free = (w for w in waiting if w.folder not in taken and w.cell.command not in commands)
        return next((w for w in free if w.folder is None or not is_locked(w.folder)), None)

    def begin(self, work: Work) -> bool:
        """Start the next command of a piece of work; False where nothing is left to do."""
        try:
            argv = self.next_command(work)
            if argv is None:
                self.finish(work)
                return False
            log = self.logs / f"{work.cell.name.replace('/', '-')}-seed{work.seeds[0]}.log"
            work.child = Child(work.name, argv, log).start()
        except OSError as error:
            self.failures.append((work.name, str(error)))
            return False
        return True

    def next_command(self, work: Work) -> list[str] | None:
        """The run itself while a seed is open, then evaluations of snapshots, then nothing."""
        runs = [self.find(work.cell, seed) for seed in work.seeds]
        open_seeds = [run.seed for run in runs if run.state in GO_ON]
        if open_seeds and work.child is None:
            if self.settings.launcher and work.cell.sweeps:
                return self.sweep_command(work.cell, open_seeds)
            argv = work.cell.argv(open_seeds[0], self.settings.more)
            if argv[0] != "distill":
                return argv
            return [*argv, f"out={quoted(self.settings.out)}", "progress=plain"]
        pending = [
            (metric.protocol, path)
            for run in runs
            for metric, path in pending_snapshots(work.cell, run)
            if path not in work.measured
        ]
        if not pending:
            return None
        protocol = pending[0][0]
        paths = [path for name, path in pending if name == protocol]
        if any("," in str(path) for path in paths):  # which would be read as several
            del paths[1:]
        work.measured.update(paths)
        # The protocol's settings are those of the run: its hardware comes along.
        return [
            "distill-evaluate", f"coreset={','.join(map(str, paths))}",
            f"evaluation=[{protocol}]", "evaluation.baseline=false",
            f"out={quoted(self.settings.out)}", "progress=plain",
        ]  # fmt: skip

    def sweep_command(self, cell: Cell, seeds: Sequence[int]) -> list[str]:
        """All seeds as one Hydra sweep under the launcher."""
        argv = cell.argv(seeds[0], self.settings.more)
        joined = ",".join(map(str, seeds))
        words = [f"seed={joined}" if word == f"seed={seeds[0]}" else word for word in argv[1:]]
        launcher = f"hydra/launcher={self.settings.launcher}"
        out = f"out={quoted(self.settings.out)}"
        return [argv[0], "-m", launcher, *words, out, "progress=plain"]

    def ended(self, work: Work) -> bool:
        """Whether all of a piece of work is over; starts its next command otherwise."""
        child = work.child
        if child is None or child.code is None:
            return child is None
        if child.code:
            self.failures.append((work.name, f"exit code {child.code}: {child.error_line()}"))
            self.say(f"  {work.name}: FAILED after {duration(child.seconds)}, log {child.log}")
            return True
        return not self.begin(work)

    def finish(self, work: Work) -> None:
        """Say what came of it; a command that ended well but left no result is a failure."""
        runs = [self.find(work.cell, seed) for seed in work.seeds]
        lacking = [run for run in runs if run.state != "done"]
        for run in lacking:
            where = f"; log {work.child.log}" if work.child else ""
            reason = f"ended without the result the table needs ({run.state}){where}"
            self.failures.append((f"{work.cell.name} seed {run.seed}", reason))
        self.done += len(runs) - len(lacking)
        took = "" if work.child is None else f" in {duration(work.child.seconds)}"
        state = "done" if not lacking else "FAILED"
        self.say(f"  [{self.done}] {work.name}: {state}{took}")

    def tell(self, active: Sequence[Work], waiting: Sequence[Work]) -> None:
        """Now and then, the last line of what runs, or what is waited for."""
        if time.monotonic() - self.news < NEWS_SECONDS:
            return
        self.news = time.monotonic()
        for work in active:
            if work.child is not None:
                self.say(
                    f"  {work.name} ({duration(work.child.seconds)}): {work.child.last_line()}"
                )
        if waiting and not active:
            self.say(f"  waiting for another process that works on {waiting[0].folder}")

    def stop_all(self, active: Sequence[Work]) -> None:
        """Let the children save their state, and wait for them."""
        children = [work.child for work in active if work.child is not None]
        for child in children:
            child.stop()
        for child in children:
            if child.process is not None:
                child.process.wait()
