"""Stages d and e: RFAD on CIFAR-10 at ipc 10 and 1, through the real command: published settings,
or those of hardware=gpu15, which end within minutes.

The run goes on until the stage's time is over (cut_run.py).
"""

import signal
import sys
import time

from gpu_stages.record import Call, Record, on_the_cpu, parse

IPC = {"d": 10, "e": 1}
LAST = 10.0  # seconds before the end of its time at which the run is asked to end
TINY = [
    "architecture.width=16", "kernel.networks=2", "batch.size=64", "batch.number=2",
    "validation.networks=2", "validation.per_class=10", "validation.every=4",
    "dataset.limit_train=2000", "dataset.limit_test=100",
]  # fmt: skip
DIGITS = ["method=rfad", "dataset=digits", *(item for item in TINY if "dataset." not in item)]


def settings(call: Call) -> list[str]:
    """Overrides of the run."""
    ipc = f"ipc={IPC[call.stage]}"
    if call.rehearse and call.data is None:
        return [*DIGITS, ipc, "steps=100000"]
    tiny = TINY if call.rehearse else []
    return ["method=rfad", "dataset=cifar10", ipc, f"hardware={call.hardware}", *tiny]


def main() -> int:
    call = parse()
    with on_the_cpu():
        from gpu_stages.cut_run import CutRun
    record, asked = Record(call.record), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    overrides = settings(call)
    every = 3 if call.rehearse else 30
    own = ["evaluation=none", "snapshots=[0]", f"checkpoint.seconds={every}", "progress=plain"]
    environment = {"TFDS_DATA_DIR": str(call.data)} if call.data else {}
    place = call.out / f"rfad_ipc{IPC[call.stage]}"
    run = CutRun(overrides, own, call.work, place, record, **environment)
    while not run.ended and not asked and call.left() > LAST:
        time.sleep(1)
        run.keep()
    if not asked:  # else it got the signal too, and a second one would interrupt its save
        run.ask()
    return 0 if run.end(call.left() - 5) else 1


if __name__ == "__main__":
    sys.exit(main())
