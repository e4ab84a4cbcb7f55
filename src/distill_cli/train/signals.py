"""Ctrl-C and SIGTERM: finish the chunk of steps at hand, checkpoint, leave."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class StopRequest:
    """Set by the first SIGINT or SIGTERM; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: object) -> None:
        """The handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        # os.write, because print is not safe inside a signal handler.
        os.write(2, b"\nstopping at the next safe point; once more stops at once\n")

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 plus the signal's number."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within this block signals become requests; the former handlers come back after it.

    Outside the main thread (a notebook server, a sweep's worker) nothing is installed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
