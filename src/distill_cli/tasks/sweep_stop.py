"""Stopping a sweep: signals of the process that started it, and of its jobs' processes.

With the basic launcher the jobs run in that process: a signal is the job's own affair
(train/signals.py), and outside of a job it ends the sweep. Jobs in other processes (joblib,
submitit) do not get the terminal's Ctrl-C. The first process writes the request into the sweep's
folder, <folder>/stop.json; a thread of every worker looks for it and sends its own process a
SIGTERM, so that the job saves its state and ends. Files reach workers on other machines too.
Imports no jax.
"""

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from distill_cli.core.files import read_json, write_json
from distill_cli.errors import RunStopped
from distill_cli.train import signals

VARIABLE = "DISTILL_SWEEP"
PROCESS = "DISTILL_SWEEP_PROCESS"
NUMBERS = (signal.SIGINT, signal.SIGTERM)
POLL = 0.2  # seconds
REMIND = 10  # polls


def stop_file(folder: Path) -> Path:
    """Holds {"signals": n}, how many signals the first process got; missing before the first."""
    return folder / "stop.json"


class Guard:
    """Signals of the process that started a sweep.

    workers: whether jobs run in other processes; then the first signal is passed on, and the sweep
    ends when no job runs any more; a second one ends it at once. ended: what is left to do when the
    process ends at once, inside native code of a job.
    """

    current: "Guard | None" = None

    def __init__(self, folder: Path, workers: bool, ended: Callable[[str], None]) -> None:
        self.folder, self.workers, self.ended = folder, workers, ended
        self.signal: signal.Signals | None = None
        self.leaving = False  # whether the main thread is to be interrupted
        self.deaf = False  # while the table is written, and after it

    @staticmethod
    def asked() -> bool:
        """Whether this process started a sweep that is to end."""
        return Guard.current is not None and Guard.current.signal is not None

    def stopped(self) -> RunStopped:
        """What the command ends with."""
        number = self.signal or signal.SIGTERM
        by = f"by {number.name}" if self.signal else "a job was"
        return RunStopped(f"{by}; the same command goes on", 128 + number)

    def ends(self, error: BaseException) -> bool:
        """Whether an error that leaves the sweep means that it was stopped."""
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            return self.signal is not None or error.code > 128
        return self.signal is not None or isinstance(error, KeyboardInterrupt)

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The handler, in the main thread or in that of `wait`."""
        if self.deaf:
            return
        first, self.signal = self.signal is None, self.signal or signal.Signals(number)
        if first and not self.workers:
            threading.Thread(target=self.remind, daemon=True).start()
        if self.workers and not self.leaving:
            write_json(stop_file(self.folder), {"signals": 1 if first else 2})
            if first:
                line = b"\nstopping: running jobs save their state; once more stops at once\n"
                os.write(signals.terminal(), line)
                threading.Thread(target=self.leave_when_idle, daemon=True).start()
                return
            self.leaving = True
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        _thread.interrupt_main()

    def remind(self) -> None:
        """Ask again until the sweep ends: an exception that a signal raises may be lost, in a
        callback or while modules are imported."""
        while not self.deaf:
            time.sleep(POLL * REMIND)
            if not self.deaf and wants_signal(self):
                signal.pthread_kill(threading.main_thread().ident or 0, self.signal or NUMBERS[0])

    def leave_when_idle(self) -> None:
        """End the sweep when no job runs: the others do not begin any more."""
        while any_running(self.folder) and not self.deaf:
            time.sleep(POLL)
        while not self.deaf:
            self.leaving = True
            _thread.interrupt_main()
            time.sleep(POLL * REMIND)

    def inside_native(self, code: int, line: str) -> bool:
        """See signals.BEFORE_END."""
        self.deaf = True
        self.ended(line)
        return False

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Within this block signals are received. With workers all threads block them, and one
        waits for them: processes started here inherit that, so that a Ctrl-C in the terminal, which
        goes to all processes, does not hit a worker that is importing or saving."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self.receive) for number in NUMBERS}
        waiter, mask = threading.Thread(target=self.wait, daemon=True), None
        Guard.current = self
        signals.BEFORE_END.append(self.inside_native)
        if self.workers:
            start_trackers()
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
            waiter.start()
        try:
            yield
        finally:
            self.deaf = True
            if mask is not None and waiter.ident is not None:
                signal.pthread_kill(waiter.ident, signal.SIGTERM)
                waiter.join()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signals.BEFORE_END.remove(self.inside_native)
            Guard.current = None
            for number, handler in former.items():
                signal.signal(number, handler)

    def wait(self) -> None:
        """Receive signals until the block is left, which sends one more."""
        while not self.deaf:
            self.receive(signal.sigwait(NUMBERS))


def wants_signal(owner: object) -> bool:
    """Whether a signal that was asked for still has to reach the main thread: its handler is that
    of `owner`, which raises, or that of a job (signals.StopRequest) that has got none yet."""
    target = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return target is owner or (isinstance(target, signals.StopRequest) and not target.received)


def start_trackers() -> None:
    """Start the helper processes of multiprocessing and joblib, which else are started with the
    first worker, and then unblock signals in the thread that starts them."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    with contextlib.suppress(ImportError):
        from joblib.externals.loky.backend import resource_tracker as of_joblib

        of_joblib.ensure_running()


def any_running(folder: Path) -> bool:
    """Whether a job is recorded as running."""
    rows = (read_json(path) for path in folder.glob("jobs/*.json"))
    return any(isinstance(row, dict) and row.get("status") == "running" for row in rows)


class Worker:
    """Signals of a process that runs jobs of a sweep which another process started."""

    current: "Worker | None" = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.parent = folder, os.getppid()
        self.write: Callable[..., None] | None = None  # the record of the job that runs

    @staticmethod
    def here(folder: Path) -> "Worker | None":
        """That of this process; None in the process that started the sweep."""
        if os.environ.get(PROCESS, str(os.getpid())) == str(os.getpid()):
            return None
        if Worker.current is None or Worker.current.folder != folder:
            Worker.current = Worker(folder)
            threading.Thread(target=Worker.current.watch, daemon=True).start()
            signals.BEFORE_END[:] = [Worker.current.inside_native]
        return Worker.current

    def asked(self) -> bool:
        """Whether the sweep is to end."""
        return stop_file(self.folder).exists() or self.orphaned()

    def orphaned(self) -> bool:
        """Whether the process that started this one is gone, even by kill -9."""
        return os.getppid() != self.parent

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler outside of the parts of a job that have their own."""
        if self.write is not None:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def working(self, write: Callable[..., None]) -> Iterator[None]:
        """Around a job. The handler stays afterwards, and does nothing between jobs."""
        self.write = write
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.receive)
            # Ctrl-C in the terminal comes through the first process.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        try:
            yield
        finally:
            self.write = None

    def inside_native(self, code: int, line: str) -> bool:
        """See signals.BEFORE_END. A worker of joblib stays, because joblib kills all workers when
        it misses one; the first process ends it."""
        if self.write is not None:
            self.write("stopped", error=line)
        return str(self.parent) == os.environ.get(PROCESS) and not self.orphaned()

    def watch(self) -> None:
        """Pass the request on, and a second one; end with the first process."""
        wait, twice = 0, False
        while True:
            time.sleep(POLL)
            orphaned = self.orphaned()
            if self.write is None:
                if orphaned:
                    os._exit(128 + signal.SIGTERM)
                continue
            found = read_json(stop_file(self.folder))
            count = found.get("signals", 1) if isinstance(found, dict) else int(orphaned)
            wait = max(wait - 1, 0)
            if (count and wants_signal(self) and not wait) or (count > 1 and not twice):
                wait, twice = REMIND, count > 1
                os.kill(os.getpid(), signal.SIGTERM)
