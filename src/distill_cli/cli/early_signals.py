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
from distill_cli.train.native_calls import UNSAVED, exit_at_once

SWEEPS = ("-m", "--multirun")
USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def end(number: int, frame: object) -> None:
    """The handler."""
    with contextlib.suppress(Exception):  # it may have come in the middle of a print
        sys.stdout.flush()
    name = signal.Signals(number).name
    # With what is to be done before it, where the module that keeps that is loaded.
    leave = getattr(sys.modules.get("distill_cli.train.signals"), "end_at_once", exit_at_once)
    leave(128 + number, UNSAVED.format(name))


def install() -> None:
    """Before anything else is imported; not where the shell has a signal ignored."""
    for number, usual in USUAL.items():
        if signal.getsignal(number) == usual:
            signal.signal(number, end)


@contextlib.contextmanager
def ended_early(raising: bool = False) -> Iterator[None]:
    """Within this block a signal that no inner block handles ends the process at once.

    raising, or one run of several processes, which have to end together: it raises as usual in
    Python instead. Sweeps have handlers of their own (tasks/sweep_stop.py).
    """
    if set(SWEEPS) & set(sys.argv[1:]) or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    raising = raising or place(os.environ) is not None
    former = {number: signal.getsignal(number) for number in USUAL}
    taken = [number for number, usual in USUAL.items() if former[number] in (usual, end)]
    for number in taken:
        signal.signal(number, USUAL[number] if raising else end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, former[number])
