"""What the user sees while a run goes on: a live line on a terminal, log lines elsewhere."""

import logging
import sys
import time
from typing import Any, Protocol

LINE_SECONDS = 10.0
log = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives events of the loop; `validated` before `stepped` where both have the same step."""

    def message(self, text: str) -> None: ...
    def stepped(self, step: int, info: dict[str, Any]) -> None: ...
    def validated(self, step: int, scores: dict[str, Any], best_step: int) -> None: ...
    def close(self) -> None: ...


class Silent:
    """progress=none."""

    def message(self, text: str) -> None: ...
    def stepped(self, step: int, info: dict[str, Any]) -> None: ...
    def validated(self, step: int, scores: dict[str, Any], best_step: int) -> None: ...
    def close(self) -> None: ...


class Rate:
    """Steps per second since the first chunk, which contains compilation and is left out."""

    def __init__(self) -> None:
        self.origin: tuple[int, float] | None = None

    def update(self, step: int) -> float | None:
        """The rate so far, or None before the second event."""
        now = time.monotonic()
        if self.origin is None:
            self.origin = (step, now)
            return None
        return (step - self.origin[0]) / max(now - self.origin[1], 1e-9)


def clock(seconds: float) -> str:
    """12s, 3m05s, 2h07m."""
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class Plain:
    """Log lines, at most one in ten seconds and one for the first validation."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.rate = Rate()
        self.last: float | None = None
        self.scores = ""

    def message(self, text: str) -> None:
        log.info(text)
        print(text, flush=True)

    def stepped(self, step: int, info: dict[str, Any]) -> None:
        rate = self.rate.update(step)
        now = time.monotonic()
        if self.last is not None and now - self.last < LINE_SECONDS and step < self.steps:
            return
        self.last = now
        speed = "" if rate is None else f"  {rate:.2f} steps/s"
        if rate and step < self.steps:
            speed += f", at most {clock((self.steps - step) / rate)} left"
        self.message(
            f"step {step}/{self.steps}  loss {info['loss']:.4f}  batch accuracy "
            f"{info['accuracy']:.4f}{self.scores}{speed}"
        )

    def validated(self, step: int, scores: dict[str, Any], best_step: int) -> None:
        self.scores = f"  validation {scores['valid_accuracy']:.4f} (best step {best_step})"

    def close(self) -> None: ...


class Live:
    """A rich progress line: step, loss, validation accuracy, steps/s, time left."""

    def __init__(self, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.steps = steps
        self.rate = Rate()
        self.bar = Bar(
            TextColumn("[bold]distilling"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        self.task = self.bar.add_task("", total=steps, text="compiling")
        self.scores = ""
        self.bar.start()

    def message(self, text: str) -> None:
        log.info(text)
        self.bar.console.print(text, highlight=False)

    def stepped(self, step: int, info: dict[str, Any]) -> None:
        rate = self.rate.update(step)
        left = (
            ""
            if rate is None
            else f"  {rate:.1f} steps/s, {clock((self.steps - step) / rate)} left"
        )
        text = f"loss {info['loss']:.4f}{self.scores}{left}"
        self.bar.update(self.task, completed=step, text=text)

    def validated(self, step: int, scores: dict[str, Any], best_step: int) -> None:
        self.scores = f"  validation {scores['valid_accuracy']:.4f} (best at {best_step})"

    def close(self) -> None:
        self.bar.stop()


def make_progress(kind: str, steps: int) -> Progress:
    """progress=auto|rich|plain|none; auto is rich on a terminal."""
    if kind == "none":
        return Silent()
    if kind == "rich" or (kind == "auto" and sys.stdout.isatty()):
        return Live(steps)
    return Plain(steps)
