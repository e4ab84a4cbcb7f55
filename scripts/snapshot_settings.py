#!/usr/bin/env python3
"""Write every published setting and preset, composed, as one text: a wrong number shows as a diff.

    python scripts/snapshot_settings.py            write tests/cli/settings.txt
    python scripts/snapshot_settings.py --check    exit code 1, and the diff, where it would change

A block [METHOD HARDWARE] begins with all values of METHOD on mnist at one image per class. A line
of it has a data set, ipc:digest of the run folder for each size, and the values that differ from
these. cpu_long and gpu15 differ from cpu and full in a few pairs only; just these have lines.
Values that belong to a data set alone stand in [dataset NAME].
"""

import argparse
import difflib
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from distill_cli.cli.help.values import composed  # noqa: E402
from distill_cli.config import group_choices  # noqa: E402
from distill_cli.naming import digest  # noqa: E402

FILE = ROOT / "tests" / "cli" / "settings.txt"
SIZES = (1, 10, 50)
FIRST = "mnist"
OWN_FILES = ("folder", "npz")  # without recipes: their images are the user's
LIKE = {"cpu_long": "cpu", "gpu15": "full"}  # what a hardware is where it has no preset
OF_DATASET = ("dataset.", "preprocess.mean", "preprocess.std")
NOT_SHOWN = ("dataset.data_dir", "hardware", "ipc", "out")

Values = dict[str, Any]


def flat(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values. (A key of tuning.space has dots in it: no look-up by path.)"""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{key}.")
        elif f"{before}{key}" not in NOT_SHOWN:
            yield f"{before}{key}", value


@functools.cache
def setting(method: str, dataset: str, hardware: str, ipc: int) -> tuple[str, Values]:
    """(digest, values) of a run with every protocol."""
    choices = {"method": method, "dataset": dataset, "hardware": hardware, "evaluation": "all"}
    tree = composed("config", choices, {"ipc": ipc}).tree
    return digest(tree), dict(sorted(flat(tree)))


def text() -> str:
    """The whole snapshot."""
    lines = []
    datasets = [name for name in group_choices("dataset") if name not in OWN_FILES]
    datasets.sort(key=lambda name: (name != FIRST, name))
    for method in group_choices("method"):
        for hardware in sorted(group_choices("hardware"), key=lambda name: (name in LIKE, name)):
            lines += block(method, hardware, datasets)
    for dataset in datasets:
        lines.append(f"[dataset {dataset}]")
        _, values = setting("rfad", dataset, "full", 1)
        lines += [f"  {key} = {shown(value)}" for key, value in values.items() if of_data(key)]
    return "\n".join(lines) + "\n"


def block(method: str, hardware: str, datasets: list[str]) -> Iterator[str]:
    """The lines of a method on a hardware."""
    yield f"[{method} {hardware}]"
    _, base = setting(method, FIRST, LIKE.get(hardware, hardware), 1)
    if hardware not in LIKE:
        yield from (f"  {key} = {shown(value)}" for key, value in base.items() if not of_data(key))
    for dataset in datasets:
        alike: dict[str, list[str]] = {}
        for ipc in SIZES:
            name, values = setting(method, dataset, hardware, ipc)
            if hardware in LIKE and values == setting(method, dataset, LIKE[hardware], ipc)[1]:
                continue
            alike.setdefault(difference(base, values), []).append(f"{ipc}:{name}")
        for values, sizes in alike.items():
            yield " ".join([dataset, *sizes, values]).rstrip()


def difference(base: Values, values: Values) -> str:
    """Values that are not those of the first setting; a key that is gone has a minus."""
    changed = [
        f"{key}={shown(value)}"
        for key, value in values.items()
        if not of_data(key) and (key not in base or base[key] != value)
    ]
    return " ".join(changed + [f"-{key}" for key in base if key not in values and not of_data(key)])


def of_data(key: str) -> bool:
    """Whether a data set alone decides a key."""
    return key.startswith(OF_DATASET)


def shown(value: object) -> str:
    """A value as JSON without spaces, so that 1 and 1.0 and "1" differ."""
    return json.dumps(value, separators=(",", ":"), default=str)


def main() -> int:
    """Exit code: 0 written or up to date, 1 would change (--check)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    old, new = FILE.read_text(encoding="utf-8") if FILE.is_file() else "", text()
    if check:
        changes = difflib.unified_diff(old.split("\n"), new.split("\n"), "before", "now", n=0)
        print("\n".join(changes) or f"{FILE.relative_to(ROOT)}: up to date")
        return int(new != old)
    FILE.write_text(new, encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {'rewritten' if new != old else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
