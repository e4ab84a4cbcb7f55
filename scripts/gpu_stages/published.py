"""Stages d and e: RFAD on CIFAR-10 at ipc 10 and 1, published settings, through the real command.

The run goes on until the stage's time is over; SIGTERM then lets it save its state. Its best
coreset is written from every checkpoint, so that one is there however the stage ends. This process
itself computes on the CPU only.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gpu_stages.record import Call, Record, brief, parse

IPC = {"d": 10, "e": 1}
LAST = 10.0  # seconds before the end of its time at which the run is asked to end
TINY = [
    "architecture.width=16", "kernel.networks=2", "batch.size=64", "batch.number=2",
    "validation.networks=2", "validation.per_class=10", "validation.every=4",
    "dataset.limit_train=2000", "dataset.limit_test=100",
]  # fmt: skip
DIGITS = ["method=rfad", "dataset=digits", *(item for item in TINY if "dataset." not in item)]


def settings(call: Call) -> tuple[list[str], tuple[int, int, int]]:
    """(overrides of the run, shape of an image)."""
    ipc = f"ipc={IPC[call.stage]}"
    if call.rehearse and call.data is None:
        return [*DIGITS, ipc, "steps=100000"], (8, 8, 1)
    tiny = TINY if call.rehearse else []
    return ["method=rfad", "dataset=cifar10", ipc, *tiny], (32, 32, 3)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Whole lines of metrics.jsonl; the last may be half written."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def main() -> int:
    call = parse()
    given = {key: os.environ.get(key) for key in ("JAX_PLATFORMS",)}
    os.environ["JAX_PLATFORMS"] = "cpu"  # of this process; the run gets what was given
    from gpu_stages import rescue, runs

    record, asked = Record(call.record), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    overrides, shape = settings(call)
    every = 3 if call.rehearse else 30
    own = ["evaluation=none", "snapshots=[0]", f"checkpoint.seconds={every}", "progress=plain"]
    out, place = call.work / f"run_{call.stage}", call.out / f"rfad_ipc{IPC[call.stage]}"
    log = call.work / f"run_{call.stage}.log"
    environment = {"TFDS_DATA_DIR": str(call.data)} if call.data else {}
    platform = given["JAX_PLATFORMS"]
    os.environ.pop("JAX_PLATFORMS")
    if platform is not None:
        os.environ["JAX_PLATFORMS"] = platform
    begun = time.monotonic()
    process = runs.start(out, [*overrides, *own], log, **environment)
    record.put(command=" ".join(["distill", *overrides, *own]))
    kept = -1

    def keep() -> None:
        """Write the coreset of a new checkpoint, and the metrics so far."""
        nonlocal kept
        folder, step = runs.run_folder(out), runs.checkpoint_step(out)
        if folder is None:
            return
        record.put(metrics=rescue.condensed(read_rows(folder / "metrics.jsonl")))
        if step > kept:
            try:
                record.put(coreset=rescue.rescue(folder, overrides, shape, place))
                kept = step
            except Exception as error:  # a checkpoint removed while it is read: the next one
                record.put(rescue_error=brief(error))

    try:
        while process.poll() is None and not asked and call.left() > LAST:
            time.sleep(1)
            keep()
        if not asked:  # else it got the signal too, and a second one would interrupt its save
            process.send_signal(signal.SIGTERM)
        process.wait(max(1.0, call.left() - 5))
    except Exception as error:
        record.put(ended=brief(error))
    finally:
        process.kill()
        keep()
        record.put(
            run_seconds=round(time.monotonic() - begun, 1), exit_code=process.wait(),
            said=log.read_text(errors="replace")[-1200:],
        )  # fmt: skip
    return 0 if kept >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
