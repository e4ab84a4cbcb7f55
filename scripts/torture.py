#!/usr/bin/env python3
"""A fault campaign over all commands: nothing is lost, the same bits at the end, one line each.

    python scripts/torture.py [--out docs/results/torture] [--seed 0] [--only kills,disk]
                              [--jobs distill,export] [--share 1.0] [--work FOLDER]

    kills    kill -9 at random moments, up to three in a row
    signals  SIGINT and SIGTERM at random moments
    pairs    the same command started twice at the same moment
    disk     disks that are full after a few kB to MB
    damage   files of a finished and a half-finished run cut, emptied, or with one bit flipped
    clock    a wall clock that jumps

Every command first runs once untouched; afterwards it has to end with the same coresets bit for bit
and the same numbers. --share 0.1 makes a tenth of the cases. Prints a table, writes OUT.json with
every case, and ends with 1 where anything was wrong; the folder of work then stays.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from faults.campaigns import CAMPAIGNS, Ground  # noqa: E402
from faults.jobs import JOBS, essence, write_table  # noqa: E402
from faults.process import run  # noqa: E402

from distill_cli.core.files import write_json  # noqa: E402
from distill_cli.version import __version__  # noqa: E402


def prepare(ground: Ground) -> None:
    """The finished run, and every job untouched: its seconds (with compiled programs in the cache)
    and its reference. Raises RuntimeError where one does not end well."""
    write_table(ground.work)
    for job in JOBS[:1] + tuple(job for job in ground.jobs if job is not JOBS[0]):
        for attempt in range(2):  # the first one compiles
            out = ground.out()
            ended = run(ground.line(job, out), ground.work)
            if ended.code or ended.complaint:
                raise RuntimeError(f"{job.name}, untouched: {ended.complaint or ended.said}")
            ground.seconds[job.name] = ended.seconds
            found = essence(out)
            if attempt and found != ground.references[job.name]:
                raise RuntimeError(f"{job.name}, untouched, gives two results")
            ground.references[job.name] = found
            if job.name == "distill" and not attempt:
                ground.made = next(out.rglob("result.json")).parent
        print(f"{job.name}: {ground.seconds[job.name]:.1f} s, {len(found)} files", flush=True)


def campaign(ground: Ground, name: str, share: float) -> dict[str, Any]:
    """One campaign's record: cases, those that were right, and what was wrong with the others."""
    cases, number = CAMPAIGNS[name]
    begun, rows = time.monotonic(), []
    for case, wrong in cases(ground, max(1, round(share * number))):
        rows.append({"case": case, "wrong": wrong})
        if wrong:
            print(f"WRONG {case}: {wrong}", flush=True)
    right = sum(not row["wrong"] for row in rows)
    seconds = round(time.monotonic() - begun)
    print(f"{name:8} {right:4} of {len(rows):4} right  {seconds} s", flush=True)
    return {"cases": len(rows), "right": right, "seconds": seconds, "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(CAMPAIGNS))
    parser.add_argument("--jobs", default=",".join(job.name for job in JOBS))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    jobs = {job.name: job for job in JOBS}
    names, chosen = options.only.split(","), options.jobs.split(",")
    for key, given, known in (("only", names, CAMPAIGNS), ("jobs", chosen, jobs)):
        if unknown := [name for name in given if name not in known]:
            print(f"error: --{key}={unknown[0]}: choose from {', '.join(known)}", file=sys.stderr)
            return 2
    if not 0 < options.share <= 1:
        print(f"error: --share={options.share}: above 0, at most 1", file=sys.stderr)
        return 2
    work = options.work or Path(tempfile.mkdtemp(prefix="torture-"))
    work.mkdir(parents=True, exist_ok=True)
    ground = Ground(work.resolve(), options.seed, tuple(jobs[name] for name in chosen))
    prepare(ground)
    found = {name: campaign(ground, name, options.share) for name in names}
    wrong = sum(one["cases"] - one["right"] for one in found.values())
    if options.out is not None:
        command = ["scripts/torture.py", f"--seed={options.seed}", f"--share={options.share:g}"]
        command += [f"--jobs={options.jobs}"] if len(chosen) < len(jobs) else []
        about = {"command": " ".join(command), "version": __version__, "wrong": wrong}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out.with_suffix(".json"), about | {"campaigns": found})
    print(json.dumps({name: f"{one['right']} of {one['cases']}" for name, one in found.items()}))
    if wrong:
        print(f"{wrong} cases were wrong; {work} stays", file=sys.stderr)
        return 1
    if options.work is None:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
