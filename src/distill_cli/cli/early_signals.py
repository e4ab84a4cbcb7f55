"""Ctrl-C and SIGTERM outside of the parts of a command that have handlers of their own.

While modules are imported, a configuration is composed or a report is drawn, nothing is unsaved:
the process ends at once, with one line. Python's own handler would raise KeyboardInterrupt, which
an import or a callback of JAX may swallow, or which ends in a traceback.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from distill_cli.core.host_place import place
from distill_cli.train.native_calls import exit_at_once

SWEEPS = ("-m", "--multirun")


@contextlib.contextmanager
def ended_early() -> Iterator[None]:
    """Within this block a signal that no inner block handles ends the process. Not in sweeps and
    not for one run of several processes, which have to end together, nor where the shell has the
    signal ignored."""
    together = place(os.environ) is not None or set(SWEEPS) & set(sys.argv[1:])
    if together or threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    former = {number: signal.getsignal(number) for number in ours}
    taken = [number for number, usual in ours.items() if former[number] == usual]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, former[number])


def end(number: int, frame: object) -> None:
    """The handler."""
    with contextlib.suppress(Exception):  # it may have come in the middle of a print
        sys.stdout.flush()
    name = signal.Signals(number).name
    exit_at_once(128 + number, f"stopped: by {name}; nothing was unsaved, the same command goes on")
