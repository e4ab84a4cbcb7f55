"""Ctrl-C and SIGTERM: finish the chunk of steps at hand, checkpoint, leave."""

import contextlib
import os
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator

from distill_cli.core import hosts
from distill_cli.errors import RunStopped
from distill_cli.train.native_calls import ended_by_signals, exit_at_once

# Called with (exit code, line) before a signal ends the process at once, inside native code; where
# one returns True the process stays (tasks/sweep_stop.py).
BEFORE_END: list[Callable[[int, str], bool]] = []


class StopRequest:
    """Set by the first SIGINT or SIGTERM; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.received = False  # by this process; the others of a run may have
        self.unsaved = False  # whether steps were made that no checkpoint has

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: object) -> None:
        """The handler."""
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        self.signal = signal.Signals(number)
        # os.write, because print is not safe inside a signal handler.
        os.write(terminal(), b"\nstopping at the next safe point; once more stops at once\n")

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 plus the signal's number."""
        return 128 + (self.signal or signal.SIGINT)

    def agree(self, due: bool, mark: bytes) -> bool:
        """Between two chunks: take over a signal that any process of the run got, and return
        whether process 0 finds a checkpoint `due`. As it is where there is one process.

        mark: what has to be equal in all processes by now. Raises RunStopped where it is not: they
        would wait for each other for ever.
        """
        if hosts.count() == 1:
            return due
        rows = hosts.agree([self.signal or 0, due, zlib.crc32(mark)])
        if (rows[:, 2] != rows[0, 2]).any():
            raise RunStopped(
                "the processes of this run computed different numbers; their hosts or drivers "
                "differ. The same command goes on from the last checkpoint",
                1,
            )
        if number := int(rows[:, 0].max()):
            self.signal = signal.Signals(number)
        return bool(rows[0, 1])


def terminal() -> int:
    """The descriptor of standard error, which is not always 2 (core/host_failures.py)."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2


def end_at_once(code: int, line: str) -> None:
    """Print a line and leave without unwinding, unless one of BEFORE_END keeps the process."""
    kept = False
    for keep in BEFORE_END:
        with contextlib.suppress(Exception):  # a full disk must not keep the process
            kept |= keep(code, line)
    if not kept:
        exit_at_once(code, line)


@contextlib.contextmanager
def stop_requests(at_once: bool = False) -> Iterator[StopRequest]:
    """Within this block signals become requests; the former handlers come back after it.

    at_once: where nothing is unsaved, a signal ends the process within seconds even inside native
    code (native_calls.py); not for a run of several processes, which have to end together.
    Outside the main thread (a notebook server, a sweep's worker) nothing is installed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, request.receive) for number in numbers}
    alone = at_once and hosts.count() == 1
    watched = (
        ended_by_signals(lambda: request.unsaved, end_at_once)
        if alone
        else contextlib.nullcontext()
    )
    try:
        with watched:
            yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
