"""Results of the registry as Markdown between markers of a file.

<!-- results:cpu_small -->
(rewritten)
<!-- end of results -->
"""

import re
from collections.abc import Sequence
from pathlib import Path

from distill_cli.core.files import write_bytes
from distill_cli.errors import UserError
from distill_cli.report.words import NONE, duration
from distill_cli.tables.registry import Entry

MARKED = re.compile(r"(<!-- results:([^\n]+?) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def update(path: Path, entries: Sequence[Entry], write_it: bool) -> tuple[bool, list[str]]:
    """(whether the file changes, tables named in it). UserError without a file or markers, and for
    a table that the registry does not have."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    text = path.read_text(encoding="utf-8")
    names = [match.group(2) for match in MARKED.finditer(text)]
    if not names:
        raise UserError(f"{path}: has no markers <!-- results:NAME --> ... <!-- end of results -->")
    new = MARKED.sub(lambda m: m.group(1) + markdown(m.group(2), entries) + m.group(3), text)
    if write_it and new != text:
        write_bytes(path, new.encode())
    return new != text, names


def markdown(table: str, entries: Sequence[Entry]) -> str:
    """The recorded cells of a table; numbers with spread over seeds, cost and device."""
    mine = [entry for entry in entries if entry["table"] == table]
    if not mine:
        raise UserError(f"results:{table}: the registry has no entry; distill-table record {table}")
    extras = list(dict.fromkeys(name for entry in mine for name in entry.get("extra", {})))
    head = ["cell", mine[0]["metric"], *extras, "seeds", "time a seed", "peak memory"]
    lines = [row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for entry in mine:
        name = entry["cell"] + (f" ({entry['overrides']})" if entry["overrides"] else "")
        more = [figure(entry.get("extra", {}).get(extra)) for extra in extras]
        memory = entry.get("memory_mb")
        peak = NONE if memory is None else f"{memory:,.0f} MB"
        cost = [str(entry["n"]), duration(entry.get("seconds")), peak]
        lines.append(row([name, figure(entry), *more, *cost]))
    devices = ", ".join(dict.fromkeys(entry["device"] for entry in mine))
    versions = ", ".join(dict.fromkeys(entry["version"] for entry in mine))
    images = ", ".join(dict.fromkeys(entry.get("images", "test data") for entry in mine))
    note = f"Mean ± standard deviation over seeds, {images}; {devices}; version {versions}."
    return "\n".join([*lines, "", note, ""])


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figure(number: Entry | None) -> str:
    """ "96.70 ± 0.21"."""
    if number is None:
        return NONE
    spread = "" if number.get("std") is None else f" ± {number['std']:.2f}"
    return f"{number['mean']:.2f}{spread}"
