"""A job of a sweep: its record, <sweep>/jobs/<number>.json, and what its errors become.

Imports no jax.
"""

import contextlib
import copyreg
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill_cli.core.files import write_json
from distill_cli.core.lock import remove_if_unused
from distill_cli.errors import RunStopped, StorageError, UserError
from distill_cli.tasks.sweep_files import NOT_STARTED
from distill_cli.tasks.sweep_stop import VARIABLE, Guard, Worker
from distill_cli.train.tracking import StopTraining

# The error of a job in a worker process reaches the first process by pickle, code included.
copyreg.pickle(RunStopped, lambda error: (RunStopped, (str(error), error.code), error.__dict__))


class TrialPruned(StopTraining):
    """A trial that was stopped because others are better; score: its best validation accuracy."""

    def __init__(self, message: str, score: float | None) -> None:
        super().__init__(message)
        self.score = score


class JobStopped(TrialPruned):
    """A job in a worker process that ended because the sweep is stopped. It ends its job alone:
    whatever else a worker raises makes joblib kill the other workers, which still save."""

    def __init__(self, message: str) -> None:
        super().__init__(message, None)


@dataclass(frozen=True)
class Journal:
    """The record of one job of a sweep."""

    path: Path
    about: Mapping[str, Any]
    running: ClassVar["Journal | None"] = None  # of the job that this process runs

    def write(self, status: str, **more: Any) -> None:
        """status: running, done, failed, pruned, stopped or not started."""
        write_json(self.path, {**self.about, "status": status, **more})


def journal(job: object, command: str, folder: Path) -> Journal | None:
    """The record of this process's job; None outside of a sweep."""
    place = os.environ.get(VARIABLE)
    if not place:
        return None
    about = {"job": job, "command": command, "folder": str(folder.absolute())}
    return Journal(Path(place) / "jobs" / f"{job}.json", about)


@contextlib.contextmanager
def recorded(book: Journal | None) -> Iterator[None]:
    """Around a job: how it ended is recorded; what ended it is raised.

    In a worker process JobStopped is raised for a job that was stopped, or not begun because the
    sweep is being stopped.
    """
    if book is None:
        yield
        return
    worker = Worker.here(book.path.parents[1])
    book.write("running")  # before the request is looked for: who asks looks for running jobs then
    if worker.asked() if worker else Guard.asked():
        book.write(NOT_STARTED)
        remove_if_unused(Path(book.about["folder"]))
        if worker is None:
            raise KeyboardInterrupt
        raise JobStopped("not started: the sweep was stopped")
    Journal.running = book
    try:
        with worker.working(book.write) if worker else contextlib.nullcontext():
            yield
        book.write("done")
    except TrialPruned as error:
        book.write("pruned", score=error.score, error=one_line(error))
        raise
    except BaseException as error:
        stopped = is_stop(error, worker.asked() if worker else Guard.asked())
        book.write("stopped" if stopped else "failed", error=one_line(error))
        if worker is None:
            # Hydra would take an ordinary error, which the signal led to, for the job's failure.
            if isinstance(error, Exception) and Guard.asked():
                raise KeyboardInterrupt from error
            raise
        if stopped and not isinstance(error, BrokenPipeError):
            raise JobStopped(f"stopped: {one_line(error)}") from error
        if isinstance(error, Exception) and not portable(error):
            raise RuntimeError(f"{type(error).__name__}: {one_line(error)}") from error
        raise
    finally:
        Journal.running = None


def is_stop(error: BaseException, asked: bool) -> bool:
    """Whether a job ended because it was told to. asked: whether the sweep is being stopped; then
    an error without a message for users is taken for a consequence, e.g. of a broken import."""
    if isinstance(error, RunStopped):
        return error.code > 128
    if isinstance(error, KeyboardInterrupt | BrokenPipeError):
        return True
    return asked and not isinstance(error, UserError | StorageError)


def one_line(error: BaseException) -> str:
    """An error's text; its type where it has none."""
    text = " ".join(str(error).split())
    if not text and isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on"
    return text or type(error).__name__


def portable(error: Exception) -> bool:
    """Whether an error survives the way from a worker process to the first process."""
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), type(error))
    except Exception:
        return False
