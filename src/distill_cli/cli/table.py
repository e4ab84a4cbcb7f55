"""The command `distill-table`: list, show, run, verify, record, readme."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from distill_cli.cli.compose import compose, run_folder
from distill_cli.cli.errors import exit_codes
from distill_cli.config import parse, plain
from distill_cli.core.files import check_folder, check_out, write_bytes
from distill_cli.errors import RunStopped, UserError, choice_error
from distill_cli.tables import registry, spec
from distill_cli.tables.measured import Measurement, measure_table
from distill_cli.tables.render import FORMATS, write
from distill_cli.tables.runs import Located, seed_run, unusable
from distill_cli.tables.show import page, time_text

USAGE = """distill-table list
distill-table show NAME     ours beside the published    [--format F] [--save FILE] [--figure FILE]
distill-table run NAME      what is missing, resumable   [--jobs N] [--launcher submitit_slurm]
distill-table verify NAME   pass or fail per cell        [--against auto|published|recorded]
distill-table record NAME   results into the registry    [--expected FILE]
distill-table readme FILE   results between the markers <!-- results:NAME --> of a file  [--check]

  --cells PATTERN   parts of a cell's name in order, with wildcards: cifar10/ipc1, ipc1, mnist/kip*;
                    several with commas
  --seeds 0,1       instead of the table's
  --out FOLDER      of results (outputs)
  --expected FILE   the registry; NAME.expected.json beside a table file of your own
  key=value ...     added to every command, e.g. hardware=cpu: then no longer the published setting
"""


class Parser(argparse.ArgumentParser):
    """Errors as UserError, in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see distill-table --help")


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a cell failed, 2 wrong input, 128 + signal."""
    with exit_codes("config", hydras=False):
        arguments = sys.argv[1:]
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE, end="")
            return
        code = command(arguments)
    sys.exit(code)


def command(arguments: Sequence[str]) -> int:
    """Dispatch; returns the exit code."""
    name, *rest = arguments
    if name not in COMMANDS:
        raise choice_error("command", name, COMMANDS)
    if "-h" in rest or "--help" in rest:
        print(USAGE, end="")
        return 0
    options, others = parser(name).parse_known_args(rest)
    for word in others:
        if word.startswith("-") or "=" not in word:
            raise UserError(f"{word}: unknown option; see distill-table --help")
    options.more = tuple(others)
    if getattr(options, "expected", "") is None:
        own = name != "readme" and options.name.endswith(".yaml")  # a table of the user's
        beside = Path(options.name).with_suffix(".expected.json")
        options.expected = beside if own else registry.default_path()
    return COMMANDS[name](options)


def parser(name: str) -> Parser:
    """Options of one subcommand."""
    found = Parser(add_help=False, allow_abbrev=False)
    if name == "list":
        return found
    found.add_argument("name")
    if name == "readme":
        found.add_argument("--check", action="store_true")
    else:
        found.add_argument("--cells", action="append", default=[])
        found.add_argument("--seeds", type=seeds)
        found.add_argument("--out", type=Path, default=Path("outputs"))
    if name == "show":
        found.add_argument("--format", default="terminal")
        found.add_argument("--save", type=Path)
        found.add_argument("--figure", type=Path)
    if name == "run":
        found.add_argument("--jobs", type=int, default=1)
        found.add_argument("--launcher", default="")
    if name == "verify":
        found.add_argument("--against", default="auto")
    if name in ("verify", "record", "readme"):
        found.add_argument("--expected", type=Path)
    return found


def seeds(text: str) -> list[int]:
    """0,1,2 as numbers."""
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise UserError(f"seeds={text}: must be whole numbers >= 0 with commas, e.g. 0,1,2")
    return list(dict.fromkeys(map(int, parts)))


def locate(overrides: Sequence[str], check: bool = False) -> Located:
    """Where the run of a `distill` command lies. check: UserError for values that it would refuse,
    which costs some imports."""
    composed = compose("config", overrides)
    if check:
        parse(composed)
    digest, folder = run_folder(composed)
    return Located(digest, folder, plain(composed).get("evaluation") or {})


def chosen(options: Any) -> tuple[spec.Table, spec.Table]:
    """(the table with the cells and seeds asked for, all of it)."""
    check_folder(options.out)
    whole = spec.load_table(options.name)
    if options.seeds is not None:
        cells = [replace(cell, seeds=tuple(options.seeds)) for cell in whole.cells]
        whole = whole.with_cells(cells)
    return spec.select(whole, options.cells), whole


def measured(options: Any) -> tuple[spec.Table, list[Measurement]]:
    """The chosen cells with what was measured of them."""
    table, whole = chosen(options)

    def find(cell: spec.Cell, seed: int) -> Any:
        return seed_run(cell, seed, options.out, options.more, locate)

    return table, measure_table(table, find, whole)


def list_tables(options: Any) -> int:
    """Names, titles, sizes."""
    if options.more:
        raise UserError(f"{options.more[0]}: list takes no options")
    for name in spec.table_names():
        table = spec.load_table(name)
        runs = sum(len(cell.seeds) for cell in table.cells if cell.command)
        known = [c.time for c in table.cells if c.time for _ in c.seeds]
        time = ""
        if known and len({t.device for t in known}) == 1 and len(known) == runs:
            total = replace(known[0], seconds=sum(t.seconds for t in known))
            time = f", {time_text(total)}"
        print(
            f"{name:18s} {table.spec.title}\n{'':18s} {len(table.cells)} cells, {runs} runs{time}"
        )
    return 0


def show(options: Any) -> int:
    """The table in a format, on standard output or in a file; or drawn."""
    if options.format not in FORMATS:
        raise choice_error("format", options.format, FORMATS)
    if options.save is not None and options.save.is_dir():
        raise UserError(f"save={options.save}: is a folder; give a file")
    table, found = measured(options)
    passed_over = [f"{folder} ({reason})" for folder, reason in unusable(options.out)]
    text = write(page(table, found, options.more, passed_over), options.format)
    if options.figure is not None:
        from distill_cli.tables.figure import draw

        print(f"figure   {draw(table, found, options.figure)}")
    if options.save is not None:
        write_bytes(options.save, text.encode())
        print(f"table    {options.save}")
    elif options.figure is None:
        print(text, end="")
    return 0


def run(options: Any) -> int:
    """Run what is missing, then show; 1 where something failed."""
    table, whole = chosen(options)
    check_out(options.out)
    from distill_cli.tasks.table import Settings, run_table

    settings = Settings(options.out, options.jobs, options.more, options.launcher)
    checked = partial(locate, check=True)
    try:
        outcome = run_table(table, settings, checked, lambda text: print(text, flush=True))
    except KeyboardInterrupt as error:
        raise RunStopped("interrupted; the same command goes on", 130) from error
    options.more = settings.setting
    found = measure_table(
        table, lambda cell, seed: seed_run(cell, seed, options.out, options.more, locate), whole
    )
    print("\n" + write(page(table, found, options.more), "terminal"), end="")
    for reason in outcome.skipped:
        print(f"not run: {reason}")
    if outcome.failures:
        print(f"{len(outcome.failures)} failed:", file=sys.stderr)
        for name, reason in outcome.failures:
            print(f"  {name}: {reason}", file=sys.stderr)
    return 1 if outcome.failures else 0


def verify(options: Any) -> int:
    """Pass or fail per cell; 1 where a cell fails or is missing."""
    from distill_cli.tables.reference import reference_of
    from distill_cli.tables.verdict import judge, tally

    if options.against not in ("auto", "published", "recorded"):
        raise choice_error("against", options.against, ("auto", "published", "recorded"))
    table, found = measured(options)
    entries = registry.load(options.expected)
    verdicts = []
    for one in found:
        entry = registry.find_entry(entries, table.name, one.cell.name, options.more)
        reference = reference_of(table, one.cell, entry, options.more, options.against)
        verdicts.append(judge(one, reference, table.spec.tolerance, options.against))
    for verdict in verdicts:
        print(f"{verdict.status:10s} {verdict.cell}: {verdict.reason}")
    print(f"{table.name}: {tally(verdicts)}")
    return 1 if any(verdict.failed for verdict in verdicts) else 0


def record(options: Any) -> int:
    """Write what was measured into the registry; cells without a number are named."""
    table, found = measured(options)
    whole = [one for one in found if one.main and one.main.n == len(one.runs)]
    entries = [entry for one in whole if (entry := registry.entry_of(table, one, options.more))]
    if not entries:
        raise UserError(f"table={table.name}: no cell is measured with all its seeds; run it first")
    registry.record(options.expected, entries)
    for one in found:
        if one not in whole:
            print(f"not recorded: {one.cell.name} (seeds are missing)")
    print(f"{len(entries)} cells recorded in {options.expected}")
    return 0


def readme(options: Any) -> int:
    """Rewrite the parts of a file between result markers; --check: 1 where they would change."""
    from distill_cli.tables.readme import update

    path = Path(options.name)
    changed, names = update(path, registry.load(options.expected), write_it=not options.check)
    if changed and options.check:
        print(f"{path}: results of {', '.join(names)} differ from the registry", file=sys.stderr)
        return 1
    print(f"{path}: {'rewritten' if changed else 'up to date'} ({', '.join(names)})")
    return 0


COMMANDS = {
    "list": list_tables, "show": show, "run": run, "verify": verify, "record": record,
    "readme": readme,
}  # fmt: skip

if __name__ == "__main__":
    main()
