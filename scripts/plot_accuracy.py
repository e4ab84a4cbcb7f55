#!/usr/bin/env python3
"""Accuracy against processor seconds: measure the snapshots of runs and draw them.

    python scripts/plot_accuracy.py "CIFAR-10=outputs/rfad/cifar10/ipc1/<run>" ... --out curves
                                    [--protocol krr_nngp] [--published "CIFAR-10=61.1"]
                                    [--set evaluation.frepo.width=128]

Runs need `snapshots=[0,250,...]`. Every snapshot is measured by distill-evaluate's own function, on
the whole test set unless --limit says less; what is measured already is not measured again. Writes
curves.json (step, processor seconds, accuracy of every snapshot) and curves.png; measurements stay
in the folder `measured` beside them. Exit code 2 on wrong input.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from distill_cli import evaluate
from distill_cli.core.files import read_json, write_bytes, write_json
from distill_cli.report import plots
from distill_cli.train.tracking import read


def spent(rows: list[dict[str, Any]], step: int) -> float:
    """Processor seconds until `step` was there."""
    known = [row["cpu_seconds"] for row in rows if row["step"] < step and "cpu_seconds" in row]
    return max(known, default=0.0)


def curve(folder: Path, protocol: str, options: list[str]) -> list[dict[str, Any]]:
    """{step, cpu_seconds, accuracy} of every snapshot of a run, in order."""
    rows, found = read(folder / "metrics.jsonl"), []
    for path in sorted((folder / "coreset" / "steps").glob("*.npz")):
        result = evaluate(path, f"evaluation=[{protocol}]", "evaluation.baseline=false", *options)
        accuracy = next(row["accuracy"] for row in result if row["protocol"] == protocol)
        step = int(path.stem)
        found.append({"step": step, "cpu_seconds": spent(rows, step), "accuracy": 100 * accuracy})
    return found


def draw(curves: dict[str, Any], published: dict[str, float], path: Path) -> None:
    """One line a run from its first snapshot after the start, whose accuracy is in the key; a
    dotted line of its colour at the published accuracy."""
    drawn, levels = [], []
    for place, (name, one) in enumerate(curves.items()):
        made = [(p["cpu_seconds"], p["accuracy"]) for p in one["points"] if p["cpu_seconds"]]
        start = one["points"][0]
        label = name if start["cpu_seconds"] else f"{name}, from {start['accuracy']:.1f} %"
        drawn.append(plots.Curve(label, *zip(*made, strict=True)))
        if name in published:
            levels.append(plots.Level(published[name], place))
    picture = plots.curves(
        "", "processor seconds, all cores", "accuracy, %", drawn, levels, log_x=True
    )
    write_bytes(path, picture)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--protocol", default="krr_nngp")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--published", action="append", default=[], metavar="NAME=PERCENT")
    options = parser.parse_args()
    more = [f"out={options.out.parent / 'measured'}", "progress=none"]
    more += [] if options.limit is None else [f"evaluation.limit={options.limit}"]
    more += options.set
    published = {name: float(value) for name, _, value in
                 (item.partition("=") for item in options.published)}  # fmt: skip
    curves: dict[str, Any] = {}
    for item in options.runs:
        name, _, folder = item.partition("=")
        result = read_json(Path(folder) / "result.json")
        if not isinstance(result, dict):
            print(f"error: {item}: NAME=FOLDER of a finished run", file=sys.stderr)
            return 2
        kept = ("command", "device", "cpu_seconds", "matmul_gflops", "version")
        about = {key: result.get(key) for key in kept}
        points = curve(Path(folder), options.protocol, more)
        if not points:
            print(f"error: {item}: no snapshots; run it with snapshots=[...]", file=sys.stderr)
            return 2
        curves[name] = about | {"points": points}
        for point in points:
            print(name, *(f"{key} {value:g}" for key, value in point.items()), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out.with_suffix(".json"), {"protocol": options.protocol, "curves": curves})
    draw(curves, published, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
