#!/usr/bin/env python3
"""Every number that a GPU has to show, in its first minutes: tests, rates, published cells.

    python scripts/gpu_check.py [--stages a,b,c=40,d,e,f] [--budget 540] [--data TFDS_DIR]
                                [--out FOLDER] [--hardware full|gpu15] [--rehearse]

    a  tests marked gpu; one step of RFAD, FRePo, DSA and KIP against the CPU; resume bit for bit
    b  the RFAD step at published size: micro-batch, arithmetic, fused first block; cosines
    c  exact-kernel pairs a second at three tile sizes; iterations of KIP
    d  RFAD on CIFAR-10, ipc 10, published settings or gpu15, for all the time that is left
    e  the same at ipc 1
    f  the FRePo step at ipc 10

Each stage is a process of its own with a limit (gpu_stages/budget.py; c=40: 40 seconds); one that
hangs or crashes loses nothing of the others. FOLDER/gpu_check.json is rewritten whole after every
row, so it holds all that was measured whenever the machine goes away; FOLDER/rfad_ipc<n> are
coresets for `distill-evaluate coreset=`. --data: CIFAR-10 as TensorFlow Datasets prepares it.
--rehearse: the same paths in tiny sizes, also on a CPU. Exit codes: 0 all stages done, 1 some not,
2 wrong input or no accelerator.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from gpu_stages.budget import LEAST, STAGES, Budget  # noqa: E402
from gpu_stages.record import Call  # noqa: E402
from gpu_stages.supervise import supervise  # noqa: E402

MODULES = {
    "a": "correctness", "b": "rfad_step", "c": "exact_kernels",
    "d": "published", "e": "published", "f": "frepo_step",
}  # fmt: skip
LEAST_BUDGET, MOST_BUDGET = 60.0, 1e6  # seconds
PROBE = 60.0  # most seconds of the record card
STARTUP = 2.0  # seconds until a stage's clock starts
NEEDS_DATA = ("d", "e")


class WrongInput(Exception):
    """Ends the program with one line and exit code 2."""


def number(text: str) -> float:
    """The number written; NaN where there is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def arguments() -> argparse.Namespace:
    """Checked options; WrongInput otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--budget", default="540", help="seconds of the whole command")
    parser.add_argument("--data", type=Path, help="TFDS folder; default $TFDS_DATA_DIR")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    parser.add_argument("--hardware", default="full", choices=("full", "gpu15"))
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    chosen, given = [], {}
    for item in options.stages.split(","):
        name, equals, seconds = item.partition("=")
        chosen.append(name)
        if equals:
            given[name] = number(seconds)
            if not LEAST <= given[name] <= MOST_BUDGET:
                raise WrongInput(
                    f"--stages={options.stages}: {item!r} in it; {name}=SECONDS takes"
                    f" a number, at least {LEAST:.0f}"
                )
    if wrong := [name for name in chosen if name not in STAGES] or len(set(chosen)) != len(chosen):
        bad = f"{wrong[0]!r} in it" if isinstance(wrong, list) else "a stage twice"
        raise WrongInput(f"--stages={options.stages}: {bad}; choose among {','.join(STAGES)}")
    options.stages, options.given = [name for name in STAGES if name in chosen], given
    options.budget = number(options.budget)
    if not LEAST_BUDGET <= options.budget <= MOST_BUDGET:
        raise WrongInput(f"--budget: must be a number of seconds, at least {LEAST_BUDGET:.0f}")
    if options.data is None and os.environ.get("TFDS_DATA_DIR"):
        options.data = Path(os.environ["TFDS_DATA_DIR"])
    if options.data is not None:
        options.data = options.data.expanduser().resolve()
        if not list(options.data.glob("cifar10/*/dataset_info.json")):
            raise WrongInput(f"--data={options.data}: no cifar10/<version>/dataset_info.json in it")
    options.out = options.out.expanduser().resolve()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongInput(f"--out={options.out}: {error.strerror}") from None
    return options


class Campaign:
    """A run of the command: its budget, its work folder, and the JSON it flushes."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.budget = Budget(options.budget, given=options.given)
        self.file = options.out / "gpu_check.json"
        self.report: dict[str, Any] = {
            "benchmark": "gpu_check", "command": shlex.join(["python", *sys.argv]),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "rehearsal": options.rehearse, "budget_s": options.budget, "stages": {},
        }  # fmt: skip
        paths = [str(HERE), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "DISTILL_CACHE_DIR": str(work / "cache"), "PYTHONFAULTHANDLER": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if options.data is not None:
            self.environment["TFDS_DATA_DIR"] = str(options.data)

    def flush(self) -> None:
        """Write the report, whole or not at all."""
        from distill_cli.core.files import write_json

        self.report["seconds"] = round(self.budget.spent(), 1)
        write_json(self.file, self.report)

    def call(self, stage: str, module: str, limit: float) -> tuple[list[str], Path]:
        """(command of a stage, its record file)."""
        record = self.work / f"{module}_{stage}.json"
        options, work = self.options, self.work / f"work_{stage}" if stage == "a" else self.work
        work.mkdir(exist_ok=True)
        own = (
            limit - self.budget.grace(stage, limit) - STARTUP
        )  # by its own clock, before it is asked to end
        call = Call(
            stage, record, options.out, work, options.data, own, options.rehearse, options.hardware
        )
        return [sys.executable, "-m", f"gpu_stages.{module}", *call.arguments()], record

    def card(self) -> None:
        """The record card; WrongInput where there is no accelerator."""
        command, record = self.call("card", "card", PROBE)
        card: dict[str, Any] = {}
        done = supervise(command, PROBE, record, self.environment, card.update, 2.0)
        if done["exit_code"] == 2:
            raise WrongInput(
                "no accelerator: jax sees the CPU only; install distill-cli[cuda12] or [cuda13], or"
                " give --rehearse"
            )
        self.report["card"] = card | done
        self.flush()

    def prepare(self) -> subprocess.Popen:
        """Start to decode and whiten CIFAR-10 in the background."""
        command, record = self.call("prepare", "prepare", self.budget.seconds)
        with record.with_suffix(".log").open("wb") as log:
            return subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stage(self, name: str, later: list[str]) -> bool:
        """Run a stage within its limit; whether it is done."""
        limit = self.budget.limit(name, later)
        entry: dict[str, Any] = {"status": "running", "limit": round(limit, 1)}
        self.report["stages"][name] = entry
        if limit < LEAST:
            entry["status"] = "left out: no time"
            self.flush()
            return False
        command, record = self.call(name, MODULES[name], limit)

        def merged(found: dict[str, Any]) -> None:
            entry["results"] = found
            self.flush()

        grace = self.budget.grace(name, limit)
        entry |= supervise(command, limit, record, self.environment, merged, grace)
        self.flush()
        print(f"stage {name}: {entry['status']}, {entry['seconds']:.0f} s", flush=True)
        return entry["status"] == "done"


def main() -> int:
    work = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    background: subprocess.Popen | None = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended
    try:
        campaign = Campaign(arguments(), work)
        campaign.card()
        needing = set(campaign.options.stages) & set(NEEDS_DATA)
        if needing and campaign.options.data is None and not campaign.options.rehearse:
            raise WrongInput("--data: stages d and e need the TFDS folder of CIFAR-10")
        if needing or ("b" in campaign.options.stages and campaign.options.data):
            background = campaign.prepare()
        stages = campaign.options.stages
        done = [campaign.stage(name, stages[at + 1 :]) for at, name in enumerate(stages)]
        with contextlib.suppress(OSError, ValueError):
            record = work / "prepare_prepare.json"
            campaign.report["prepare"] = json.loads(record.read_text())
        campaign.flush()
        print(campaign.file)
        return 0 if all(done) else 1
    except WrongInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if background is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(background.pid, signal.SIGKILL)
            background.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
