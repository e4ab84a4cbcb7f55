"""A `distill` run that ends with its time: its best coreset is written from every checkpoint, so
that one is there however the run ends, and SIGTERM lets it save its state.

The watching process computes on the CPU only.
"""

import signal
import subprocess
import time
from pathlib import Path

from distill_cli.train import tracking
from gpu_stages import rescue, runs
from gpu_stages.record import Record, brief


class CutRun:
    """overrides: words of the command; own: words that do not stand in the coreset's manifest;
    work: a folder for the run and its log; place: where the coreset goes. The run needs
    snapshots=[0], by which the coreset's size is known."""

    def __init__(
        self, overrides: list[str], own: list[str], work: Path, place: Path, record: Record,
        **environment: str,
    ) -> None:  # fmt: skip
        self.overrides, self.place, self.record = overrides, place, record
        self.out, self.log = work / place.name, work / f"{place.name}.log"
        self.begun, self.kept = time.monotonic(), -1
        self.process = runs.start(self.out, [*overrides, *own], self.log, **environment)
        record.put(command=" ".join(["distill", *overrides, *own]))

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self.process.poll() is not None

    def keep(self) -> None:
        """Write the coreset of a new checkpoint, and the metrics so far."""
        folder, step = runs.run_folder(self.out), runs.checkpoint_step(self.out)
        if folder is None:
            return
        self.record.put(metrics=rescue.condensed(tracking.read(folder / "metrics.jsonl")))
        if step > self.kept:
            try:
                found = rescue.rescue(folder, self.overrides, self.place)
                if found is not None:
                    self.record.put(coreset=found)
                    self.kept = step
            except Exception as error:  # a checkpoint removed while it is read: the next one
                self.record.put(rescue_error=brief(error))

    def ask(self) -> None:
        """Ask the run to save and end."""
        if not self.ended:
            self.process.send_signal(signal.SIGTERM)

    def end(self, seconds: float) -> bool:
        """Wait so long for it, then kill it; whether there is a coreset."""
        try:
            self.process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired as error:
            self.record.put(ended=brief(error))
        finally:
            self.process.kill()
            self.keep()
            self.record.put(
                run_seconds=round(time.monotonic() - self.begun, 1),
                exit_code=self.process.wait(), said=self.log.read_text(errors="replace")[-1200:],
            )  # fmt: skip
        return self.kept >= 0
