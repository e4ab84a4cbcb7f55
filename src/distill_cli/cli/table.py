"""The command `distill-table`: list, show, run, verify, record, readme."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from distill_cli.cli.compose import compose, run_folder
from distill_cli.cli.errors import exit_codes
from distill_cli.cli.help.answer import answered
from distill_cli.cli.table_options import Options
from distill_cli.cli.table_options import parse as parse_options
from distill_cli.config import parse, plain
from distill_cli.core.files import check_folder, check_out, write_bytes
from distill_cli.errors import RunStopped, UserError, choice_error
from distill_cli.tables import registry, spec
from distill_cli.tables.measured import Measurement, measure_table
from distill_cli.tables.render import FORMATS, write
from distill_cli.tables.runs import Located, seed_run, unusable
from distill_cli.tables.show import page, time_text


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a cell failed, 2 wrong input, 128 + signal."""
    arguments = sys.argv[1:]
    if answered("distill-table", arguments or ["--help"]):
        return
    with exit_codes("config", hydras=False):
        code = command(arguments)
    sys.exit(code)


def command(arguments: Sequence[str]) -> int:
    """Dispatch; returns the exit code."""
    name, *rest = arguments
    if name not in COMMANDS:
        raise choice_error("command", name, COMMANDS)
    return COMMANDS[name](parse_options(name, rest))


def registry_of(options: Options) -> Path:
    """The registry: the given one, else that beside a table of the user's, else the shipped one."""
    if options.expected is not None:
        return options.expected
    own = options.table.endswith(".yaml")
    return Path(options.table).with_suffix(".expected.json") if own else registry.default_path()


def locate(overrides: Sequence[str], check: bool = False) -> Located:
    """Where the run of a `distill` command lies. check: UserError for values that it would refuse,
    which costs some imports."""
    composed = compose("config", overrides)
    if check:
        parse(composed)
    digest, folder = run_folder(composed)
    return Located(digest, folder, plain(composed).get("evaluation") or {})


def chosen(options: Options) -> tuple[spec.Table, spec.Table]:
    """(the table with the cells and seeds asked for, all of it)."""
    check_folder(options.out)
    whole = spec.load_table(options.table)
    if options.seeds is not None:
        cells = [replace(cell, seeds=options.seeds) for cell in whole.cells]
        whole = whole.with_cells(cells)
    return spec.select(whole, options.cells), whole


def measured(options: Options) -> tuple[spec.Table, list[Measurement]]:
    """The chosen cells with what was measured of them."""
    table, whole = chosen(options)

    def find(cell: spec.Cell, seed: int) -> Any:
        return seed_run(cell, seed, options.out, options.more, locate)

    return table, measure_table(table, find, whole)


def list_tables(options: Options) -> int:
    """Names, titles, sizes."""
    del options
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


def show(options: Options) -> int:
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


def run(options: Options) -> int:
    """Run what is missing, then show; 1 where something failed."""
    table, whole = chosen(options)
    check_out(options.out)
    from distill_cli.tasks.table import Settings, run_table

    settings = Settings(options.out, options.jobs, options.more, options.launcher or "")
    checked = partial(locate, check=True)
    try:
        outcome = run_table(table, settings, checked, lambda text: print(text, flush=True))
    except KeyboardInterrupt as error:
        raise RunStopped("interrupted; the same command goes on", 130) from error
    options = replace(options, more=settings.setting)
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


def verify(options: Options) -> int:
    """Pass or fail per cell; 1 where a cell fails or is missing."""
    from distill_cli.tables.reference import reference_of
    from distill_cli.tables.verdict import judge, tally

    table, found = measured(options)
    entries = registry.load(registry_of(options))
    verdicts = []
    for one in found:
        entry = registry.find_entry(entries, table.name, one.cell.name, options.more)
        reference = reference_of(table, one.cell, entry, options.more, options.against)
        verdicts.append(judge(one, reference, table.spec.tolerance, options.against))
    for verdict in verdicts:
        print(f"{verdict.status:10s} {verdict.cell}: {verdict.reason}")
    print(f"{table.name}: {tally(verdicts)}")
    return 1 if any(verdict.failed for verdict in verdicts) else 0


def record(options: Options) -> int:
    """Write what was measured into the registry; cells without a number are named."""
    table, found = measured(options)
    whole = [one for one in found if one.main and one.main.n == len(one.runs)]
    entries = [entry for one in whole if (entry := registry.entry_of(table, one, options.more))]
    if not entries:
        raise UserError(f"table={table.name}: no cell is measured with all its seeds; run it first")
    registry.record(registry_of(options), entries)
    for one in found:
        if one not in whole:
            print(f"not recorded: {one.cell.name} (seeds are missing)")
    print(f"{len(entries)} cells recorded in {options.expected}")
    return 0


def readme(options: Options) -> int:
    """Rewrite the parts of a file between result markers; --check: 1 where they would change."""
    from distill_cli.tables.readme import update

    path = Path(options.file)
    changed, names = update(path, registry.load(registry_of(options)), write_it=not options.check)
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
