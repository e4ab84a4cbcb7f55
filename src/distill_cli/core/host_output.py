"""What C++ writes to the terminal, and its abort, in a process of a run of several.

JAX aborts a process from C++ where another one is lost, with a stack trace, and takes no callback
(0.10: std::bad_cast). So the abort is caught here, and what C++ writes to the descriptors 1 and 2
is held back until it is known not to be about that.
"""

import ctypes
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import NoReturn

ABORTED = b"distributed service detected fatal errors"
# Of gloo and of the coordination service: noise while all is well; then the lines that follow the
# first one of a message about lost processes, their numbers among them.
NOISE = re.compile(
    rb"\[Gloo\] Rank|connected peer ranks|coordination_service|client\.h:\d+\]"
    rb"|distributed_runtime|^The following tasks are unhealthy|^The tasks have crashed|^RPC: /"
    rb"|^[\d,\s]*$"
)


class Output:
    """The terminal for Python, and a file for what C++ writes to the descriptors 1 and 2."""

    def __init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115
        self.read = 0
        self.abort_seen = False
        self.lock = threading.Lock()
        self.terminal = os.dup(2)
        for name, number in (("stdout", 1), ("stderr", 2)):
            former = getattr(sys, name)
            copy = os.dup(number)
            stream = open(  # noqa: SIM115
                copy, "w", buffering=1, encoding=former.encoding, errors=former.errors,
            )  # fmt: skip
            setattr(sys, name, stream)
            os.dup2(self.spool.fileno(), number)

    def unread(self) -> bytes:
        size = os.fstat(self.spool.fileno()).st_size
        return os.pread(self.spool.fileno(), size - self.read, self.read)

    def relay(self) -> None:
        """Complete lines that are no noise, to the terminal; none from the abort's first line on,
        since C++ ends with its message."""
        with self.lock:
            text = self.unread()
            text = text[: text.rfind(b"\n") + 1]
            self.read += len(text)
            kept = []
            for line in text.splitlines(True):
                self.abort_seen |= ABORTED in line
                if not self.abort_seen and not NOISE.search(line):
                    kept.append(line)
            os.write(self.terminal, b"".join(kept))

    def catch_abort(self, action: Callable[[], NoReturn]) -> None:
        """Call `action` where JAX aborts this process; any other abort shows what C++ wrote and
        goes on to its default."""
        callback = ctypes.CFUNCTYPE(None, ctypes.c_int)

        def aborted(number: int) -> None:
            text = self.unread()
            if ABORTED not in text and not self.abort_seen:
                os.write(self.terminal, text)
                return
            action()

        self.handler = callback(aborted)  # which must outlive this call
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, callback], ctypes.c_void_p
        libc.signal(signal.SIGABRT, self.handler)

    def give_back(self) -> None:
        """The descriptors 1 and 2 are the terminal again, and an abort is the system's."""
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            os.dup2(stream.fileno(), number)
        ctypes.CDLL(None).signal(signal.SIGABRT, ctypes.c_void_p(0))

    def say(self, line: str) -> None:
        """One line on the terminal, also from inside a signal handler."""
        if os.isatty(self.terminal):
            os.write(self.terminal, b"\x1b[?25h")  # a live progress line hides the cursor
        os.write(self.terminal, (" ".join(line.split()) + "\n").encode())
