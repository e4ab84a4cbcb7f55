"""Signals while the program is inside native code, where Python's own handlers have to wait.

Whitening, compilation or one long step may take minutes in which Python runs nothing. A thread
learns of signals at once (signal.set_wakeup_fd) and ends the process where nothing would be lost.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

GRACE = 4.0  # seconds in which the program may still end by itself
UNSAVED = "stopped: by {}; nothing was unsaved, the same command goes on"
ENDING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ended_by_signals(
    unsaved: Callable[[], bool], end: Callable[[int, str], None] | None = None
) -> Iterator[None]:
    """Within this block a first SIGINT or SIGTERM ends the process after GRACE seconds unless
    unsaved(), and a second one in any case; a block that is left before is left alone.

    end(exit code, line) is called then; by default it prints the line and exits at once. Files are
    written whole or not at all, so that none is cut off. In the main thread only.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    left = threading.Event()
    thread = threading.Thread(
        target=watch, args=(reader, left, unsaved, end or exit_at_once), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(former)
        os.close(writer)
        thread.join()
        os.close(reader)


def watch(
    reader: int, left: threading.Event, unsaved: Callable[[], bool], end: Callable[[int, str], None]
) -> None:
    """Wait for signals, whose numbers come as bytes, until the other end is closed."""
    received = 0
    while data := os.read(reader, 1):
        if data[0] not in ENDING:
            continue
        received += 1
        name = signal.Signals(data[0]).name
        if received == 1:
            # What the program has not saved by then, it is about to save.
            if unsaved() or left.wait(GRACE) or unsaved():
                continue
            end(128 + data[0], UNSAVED.format(name))
        elif not left.wait(GRACE):
            end(128 + data[0], f"stopped: by a second {name}; the same command goes on")


def exit_at_once(code: int, line: str) -> None:
    """Print a line and leave without unwinding: the main thread does not return."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
    os._exit(code)
