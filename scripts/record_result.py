#!/usr/bin/env python3
"""Keep a run's measured figures in docs/results, with date, hardware and the exact command.

python scripts/record_result.py RUN_FOLDER ["what else the machine was doing"]
"""

import json
import os
import platform
import shlex
import sys
from datetime import date
from pathlib import Path

KEPT = (
    "schema", "version", "digest", "command", "method", "dataset", "ipc", "seed", "labels", "loss",
    "init", "steps", "best_step", "stop_reason", "validation", "device", "environment", "seconds",
    "cpu_seconds", "matmul_gflops", "peak_memory_mb", "coreset", "training", "evaluations",
    "config",
)  # fmt: skip


def main(folder: str, note: str = "") -> Path:
    """Write docs/results/<method>_<dataset>_ipc<n>_<hardware>_seed<n>.json; returns its path."""
    result = json.loads((Path(folder) / "result.json").read_text())
    record = {"date": date.today().isoformat(), "hardware": hardware(), "note": note}
    record |= {key: result[key] for key in KEPT if key in result}
    record["command"] = shlex.join(
        word
        for word in shlex.split(record["command"])
        if not word.startswith(("out=", "progress="))
    )
    for key in ("out", "checkpoint", "progress"):
        record["config"].pop(key, None)
    for key in ("data_dir", "path"):
        record["config"]["dataset"].pop(key, None)
    name = "{method}_{dataset}_ipc{ipc}".format(**result)
    name += f"_{result['config']['hardware']}_seed{result['seed']}.json"
    path = Path(__file__).resolve().parents[1] / "docs" / "results" / name
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def hardware() -> str:
    """Processor and cores of this machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
