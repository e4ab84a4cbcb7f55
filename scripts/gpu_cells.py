#!/usr/bin/env python3
"""Several distillations on one GPU in a fixed time: each a run of the real command, side by side.

    python scripts/gpu_cells.py --seconds 300 --out cells \
        "rfad_ipc10: method=rfad dataset=cifar10 ipc=10 hardware=gpu15" "rfad_ipc1: ..."

Runs share the card, so that one computes while another starts; those that do not end in time save
their state and end. OUT/<name>/ holds each one's best coreset for `distill-evaluate coreset=`,
OUT/cells.json what it said, its validations and losses. Exit codes: 0 a coreset of each, 1 not of
all, 2 wrong input.
"""

import argparse
import atexit
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
GRACE = 12.0  # seconds to save and end
OWN = ["evaluation=none", "snapshots=[0]", "checkpoint.seconds=20", "progress=plain"]


def arguments() -> argparse.Namespace:
    """Checked options; ends with one line and exit code 2 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("cells", nargs="+", metavar="NAME: WORDS")
    options = parser.parse_args()
    named = [cell.partition(":") for cell in options.cells]
    options.cells = {name.strip(): words.split() for name, _, words in named}
    wrong = [name for name, words in options.cells.items() if not words or not name.isidentifier()]
    if wrong or len(options.cells) < len(named):
        refuse(f"{wrong[0] if wrong else 'twice'!r}: cells are NAME: WORDS, each name once")
    if not options.seconds > GRACE:
        refuse(f"--seconds={options.seconds:g}: must be above {GRACE:g}")
    return options


def refuse(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main() -> int:
    options = arguments()
    begun = time.monotonic()
    from gpu_stages.record import Record, on_the_cpu

    with on_the_cpu():
        from gpu_stages.cut_run import CutRun

        from distill_cli.core.files import write_json

    work = Path(tempfile.mkdtemp(prefix="gpu-cells-"))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = {
        name: CutRun(
            words, OWN, work, options.out / name, Record(work / f"{name}.json"),
            XLA_PYTHON_CLIENT_PREALLOCATE="false",
        )
        for name, words in options.cells.items()
    }  # fmt: skip

    def report() -> None:
        rows = {name: json.loads(run.record.path.read_text()) for name, run in runs.items()}
        seconds = round(time.monotonic() - begun, 1)
        write_json(options.out / "cells.json", {"seconds": seconds, "cells": rows})

    def left() -> float:
        return options.seconds - (time.monotonic() - begun)

    while left() > GRACE and not all(run.ended for run in runs.values()):
        time.sleep(2)
        for run in runs.values():
            run.keep()
        report()
    for run in runs.values():
        run.ask()
    done = [run.end(left() - 4) for run in runs.values()]
    report()
    for name, run in runs.items():
        best = run.record.values.get("metrics", {}).get("best", {})
        print(name, json.dumps(best), run.record.values.get("exit_code"), flush=True)
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
