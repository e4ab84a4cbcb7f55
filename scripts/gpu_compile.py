#!/usr/bin/env python3
"""Compile the hot programs for one and eight H100, without a GPU, and compare with the record.

    python scripts/gpu_compile.py [names...] [--devices 1,8] [--write] [--list]
                                  [--json FILE] [--against FILE] [--keep-hlo FOLDER]

Needs an environment with JAX's CUDA plugin (pip install ".[cuda12]"); nothing runs on a device.
Prints memory, launches, traffic of device memory, a roofline estimate and bad signs of each
program. Exit code 0; 1 where a program got worse than the record by more than 5 % (temporary
memory, launches, HBM bytes, roofline time), shows a new bad sign or no longer compiles; 2 without
the plugin. With --write the rows of the programs compiled are replaced, and the exit code is 0.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu import cost, record, target
from gpu.programs import catalogue

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "results" / "gpu_compile.json"
HEAD = (
    f"{'program':28} {'GPUs':>4} {'temp GiB':>9} {'needs GiB':>9} {'HBM GB':>10} "
    f"{'launches':>12} {'TFLOP':>9} {'roofline ms':>12} {'compiled':>9}  bad signs"
)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    programs = catalogue()
    if options.list:
        for program in programs.values():
            print(f"{program.name:28} devices {', '.join(map(str, program.devices))}")
        return 0
    unknown = [name for name in options.names if name not in programs]
    if unknown:
        print(f"error: {unknown[0]}: no such program; --list shows them", file=sys.stderr)
        return 2
    if target.plugin() is None:
        print(
            "error: this environment has no CUDA plugin of JAX; in one of its own: "
            'pip install ".[cuda12]"',
            file=sys.stderr,
        )
        return 2
    if options.row_to:
        return child(options)
    old = record.read(options.against)["rows"]
    rows = []
    print(HEAD)
    for name in options.names or programs:
        for count in programs[name].devices:
            if count in options.devices:
                rows.append(compiled(name, count, options))
                print(line(rows[-1]), flush=True)
                if options.write:  # row by row: a run that is stopped keeps what it has
                    kept = record.read(options.json)["rows"]
                    merged = record.merged(kept, rows[-1:], list(programs))
                    record.write(options.json, {**header(), "rows": merged})
    if options.write:
        return 0
    worse = record.compare(old, rows)
    for text in worse:
        print(f"worse: {text}")
    return 1 if worse else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="programs; all of them where none is named")
    parser.add_argument("--devices", default="1,8", help="numbers of GPUs, default 1,8")
    parser.add_argument("--json", type=Path, default=RECORD, help="the record that --write changes")
    parser.add_argument("--against", type=Path, help="compare with this record instead")
    parser.add_argument("--write", action="store_true", help="replace rows of the record")
    parser.add_argument("--list", action="store_true", help="names of the programs")
    parser.add_argument("--keep-hlo", type=Path, help="folder for the optimised HLO texts")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per program")
    parser.add_argument("--row-to", type=Path, help=argparse.SUPPRESS)  # of a child process
    options = parser.parse_args(arguments)
    try:
        options.devices = tuple(int(count) for count in options.devices.split(","))
    except ValueError:
        parser.error(f"--devices={options.devices}: give numbers joined by commas")
    options.against = options.against or options.json
    return options


def compiled(name: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """The row of a program, from a process of its own with a limit on its time."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, __file__, name, "--devices", str(count), "--row-to", str(out)]
        if options.keep_hlo:
            command += ["--keep-hlo", str(options.keep_hlo.absolute())]
        row = {"program": name, "devices": count}
        environment = target.child_environment(ROOT / "src")
        start = time.monotonic()
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=options.timeout
            )
        except subprocess.TimeoutExpired:
            return {**row, "error": f"not compiled within {options.timeout:g} s"}
        if done.returncode or not out.is_file():
            return {**row, "error": last_line(done.stderr, done.returncode)}
        return {**json.loads(out.read_text()), "seconds": round(time.monotonic() - start, 1)}


def child(options: argparse.Namespace) -> int:
    """Compile the one program that is named, and write its row."""
    (name,), (count,) = options.names, options.devices
    found = target.compile_program(catalogue()[name], count)
    options.row_to.write_text(json.dumps(found.row))
    if options.keep_hlo and found.text:
        options.keep_hlo.mkdir(parents=True, exist_ok=True)
        (options.keep_hlo / f"{name}_{count}.hlo").write_text(found.text)
    return 0


def last_line(text: str, code: int) -> str:
    """The error's last line, without folders of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {code}").replace(f"{ROOT}/", "")[:300]


def header() -> dict[str, Any]:
    """What the rows depend on."""
    return {
        "schema": record.SCHEMA,
        "date": date.today().isoformat(),
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
        "plugin": target.plugin(),
        "target": target.description_name(),
        "assumptions": cost.ASSUMPTIONS,
        "note": "estimates from compiled programs, per device and step; nothing was measured",
        "command": "python scripts/gpu_compile.py --write",
    }


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    head = f"{row['program']:28} {row['devices']:4}"
    if "error" in row:
        return f"{head} failed: {row['error']}"
    if row.get("alone"):
        return f"{head} not shared out: every device does all of it"
    from gpu.signs import needed_bytes

    flop = sum(row["flop"].values()) / 1e12
    kinds = ", ".join(sign["kind"] for sign in row["bad_signs"])
    return (
        f"{head} {row['temp_bytes'] / 2**30:9.3f} {needed_bytes(row) / 2**30:9.3f} "
        f"{row['hbm_bytes'] / 1e9:10.2f} {row['launches']:12,.0f} {flop:9.3f} "
        f"{row['roofline_ms']:12,.3f} {row['compile_seconds']:7.1f} s  {kinds}"
    )


if __name__ == "__main__":
    sys.exit(main())
