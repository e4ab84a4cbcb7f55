"""Stopping sweeps: states of all jobs, signals that reach workers, nothing left behind."""

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_cli.errors import RunStopped, UserError
from distill_cli.tasks import sweep, sweep_stop
from distill_cli.train import signals
from extras import needs_joblib, needs_optuna
from tiny import TINY

# Long enough to be stopped, with a checkpoint at every tenth step.
LONG = (
    *TINY, "steps=1000000", "validation.patience=1000000", "evaluation=[krr_nngp]",
    "evaluation.limit=20",
)  # fmt: skip
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
OPTUNA = ("search=optuna", "hydra.sweeper.n_trials=3")


class Sweep:
    """distill -m in a session of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self.log = folder, folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distill_cli.cli.distill", "-m", *LONG, *words],
                cwd=folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "DISTILL_CACHE_DIR": str(folder / "cache")},
            )  # fmt: skip

    def wait_for(self, there) -> None:
        """Until there() holds; an error where the sweep ends before."""
        for _ in range(6000):  # five minutes: machines are shared
            if there():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def checkpoints(self) -> int:
        """Runs that have a checkpoint."""
        found = self.folder.glob("outputs/*/*/*/*/checkpoints/*")
        return len({path.parent for path in found if path.name.isdigit()})

    def ended(self) -> int:
        """The exit code."""
        return self.process.wait(120)

    def members(self) -> set[int]:
        """Processes of the session, the resource trackers and zombies excepted: these are nobody's
        work."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                line = stat.with_name("cmdline").read_bytes()
            except OSError:
                continue
            own = int(fields[3]) == self.process.pid and fields[0] != "Z"
            if own and b"resource_tracker" not in line:
                found.add(int(stat.parent.name))
        return found

    def nobody_left(self) -> None:
        """Within a minute."""
        for _ in range(600):
            if not self.members():
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.members()} are left")

    def states(self) -> dict[str, int]:
        """From sweep.json; its counts add up to its rows."""
        (file,) = self.folder.glob("outputs/sweeps/*/sweep.json")
        found = json.loads(file.read_text())
        assert sum(found["states"].values()) == len(found["jobs"])
        assert {row["status"] for row in found["jobs"]} == set(found["states"])
        return found["states"]


@pytest.fixture
def start(tmp_path):
    """start(*words) runs a sweep that is killed at the test's end if it is still there."""
    started = []

    def run(*words: str) -> Sweep:
        started.append(Sweep(tmp_path, *words))
        return started[-1]

    yield run
    for one in started:
        for member in one.members():
            os.kill(member, signal.SIGKILL)
        one.process.wait()


@pytest.mark.process
def test_ctrl_c_in_a_sweep_of_one_process(start):
    running = start("seed=0,1,2,3,4")
    running.wait_for(running.checkpoints)
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.ended() == 130
    assert running.states() == {"stopped": 1, "not started": 4}
    assert "5 jobs: 1 stopped, 4 not started" in running.log.read_text()
    assert "state saved" in running.log.read_text()


@pytest.mark.process
@pytest.mark.parametrize(("words", "number"), [((), signal.SIGTERM), (JOBLIB, signal.SIGINT)])
def test_a_signal_while_the_first_job_begins(start, words, number):
    running = start("seed=0,1,2,3,4", *words)
    running.wait_for(lambda: "== job 0" in running.log.read_text())
    os.killpg(running.process.pid, number)
    assert running.ended() == 128 + number
    found = running.states()
    assert set(found) <= {"stopped", "not started"} and sum(found.values()) == 5
    running.nobody_left()


@needs_joblib
@pytest.mark.process
def test_workers_of_joblib_save_and_go_on(start):
    first = start("seed=0,1,2,3,4", *JOBLIB)
    first.wait_for(lambda: first.checkpoints() == 2)
    os.killpg(first.process.pid, signal.SIGINT)  # as Ctrl-C does: workers too
    assert first.ended() == 130
    assert first.states() == {"stopped": 2, "not started": 3}
    assert first.log.read_text().count("state saved") >= 2
    first.nobody_left()
    again = start("seed=0,1,2,3,4", *JOBLIB)
    again.wait_for(lambda: again.log.read_text().count("resuming at step") == 2)
    again.process.send_signal(signal.SIGTERM)  # the first process only
    assert again.ended() == 143
    assert again.states() == {"stopped": 2, "not started": 3}
    again.nobody_left()


@needs_joblib
@pytest.mark.process
def test_workers_end_with_the_first_process(start):
    running = start("seed=0,1,2", *JOBLIB)
    running.wait_for(lambda: running.checkpoints() == 2)
    assert len(running.members()) >= 3
    running.process.kill()
    running.process.wait()
    running.nobody_left()
    assert "state saved" in running.log.read_text()


@needs_joblib
@needs_optuna
@pytest.mark.process
@pytest.mark.parametrize("words", [(), (*JOBLIB, "hydra.sweeper.n_jobs=2")])
def test_trials_of_a_search(start, words):
    running = start(*OPTUNA, *words)
    running.wait_for(running.checkpoints)
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130
    found = running.states()
    assert sum(found.values()) == 3 and found["stopped"] >= 1
    assert set(found) == {"stopped", "not started"}
    assert re.search(r"\(\d more\) +not started", running.log.read_text())
    running.nobody_left()


@needs_joblib
@pytest.mark.process
def test_a_failing_job_of_a_worker_does_not_end_the_others(command):
    """An error with an exit code of its own has to survive the way to the first process."""
    words = ("seed=0,1", "method.learning_rates.images=1e-2,1e30", "evaluation=none", *TINY)
    done = command("distill", "-m", *words, *JOBLIB)
    assert done.code == 1, done.err
    assert "4 jobs: 2 done, 2 failed" in done.out
    assert "2 of 4 jobs failed:" in done.out


def test_an_error_keeps_its_code_between_processes():
    error = RunStopped("the loss is not finite", 1)
    error.reported = True
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), found.code, found.reported) == ("the loss is not finite", 1, True)


class Other(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def test_errors_that_pickle_cannot_carry():
    assert sweep.portable(UserError("x=1")) and sweep.portable(OSError(2, "none", "file"))
    assert not sweep.portable(Other(1, 2))


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """This process as one that another process started for a job."""
    monkeypatch.setenv(sweep.VARIABLE, str(tmp_path))
    monkeypatch.setenv(sweep_stop.PROCESS, str(os.getppid()))
    monkeypatch.setattr(sweep_stop.Worker, "current", None)
    monkeypatch.setattr(signals, "BEFORE_END", [])
    former = signal.getsignal(signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield tmp_path
    sweep_stop.Worker.current.write = None
    signal.signal(signal.SIGTERM, former)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def status(folder: Path, job: int) -> str:
    return json.loads((folder / "jobs" / f"{job}.json").read_text())["status"]


def test_a_request_reaches_a_worker_and_the_next_job_does_not_begin(worker):
    swallowed = []

    def job() -> None:
        sweep_stop.stop_file(worker).write_text('{"signals": 1}')
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            swallowed.append(True)  # as an import's own handler may do: it is repeated
        time.sleep(30)

    book = sweep.journal(0, "distill seed=0", worker / "run0")
    with pytest.raises(sweep.JobStopped, match="stopped: interrupted"), sweep.recorded(book):
        job()
    assert swallowed and status(worker, 0) == "stopped"
    book = sweep.journal(1, "distill seed=1", worker / "run1")
    with pytest.raises(sweep.JobStopped, match="not started"), sweep.recorded(book):
        raise AssertionError("begun")
    assert status(worker, 1) == "not started"


def test_a_job_gets_one_signal_for_one_request(worker):
    """A second one would end it without its state."""
    received = []

    def job() -> None:
        with signals.stop_requests() as request:
            sweep_stop.stop_file(worker).write_text('{"signals": 1}')
            end = time.monotonic() + 2 * sweep_stop.POLL * sweep_stop.REMIND
            while time.monotonic() < end:
                received.append(request.received)
                time.sleep(0.05)
            raise RunStopped("at step 7; state saved", request.exit_code)

    book = sweep.journal(0, "distill seed=0", worker / "run0")
    with pytest.raises(sweep.JobStopped, match="state saved"), sweep.recorded(book):
        job()
    assert received[-1] and status(worker, 0) == "stopped"


def test_native_code_of_a_worker_of_joblib_is_not_ended(worker):
    """joblib would kill the other workers."""
    book = sweep.journal(0, "distill seed=0", worker / "run0")
    with sweep.recorded(book):
        signals.end_at_once(143, "stopped: by SIGTERM")  # would end this process
        assert status(worker, 0) == "stopped"


def test_signals_between_jobs_end_the_sweep(tmp_path, capsys):
    def jobs() -> None:
        folders = [tmp_path / "a", tmp_path / "b"]
        sweep.plan([(f"distill seed={at}", folder) for at, folder in enumerate(folders)])
        with sweep.recorded(sweep.journal(0, "distill seed=0", folders[0])):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    arguments = ["-m", "seed=0,1", f"out={tmp_path}"]
    with pytest.raises(RunStopped, match="by SIGTERM") as stop, sweep.sweep(arguments):
        jobs()
    assert stop.value.code == 143
    assert "2 jobs: 1 done, 1 not started" in capsys.readouterr().out


def test_no_job_begins_after_an_interrupt_that_was_swallowed(tmp_path):
    def jobs() -> None:
        book = sweep.journal(0, "distill seed=0", tmp_path / "a")
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        with sweep.recorded(book):
            raise AssertionError("begun")

    arguments = ["-m", "seed=0", f"out={tmp_path}"]
    with pytest.raises(RunStopped) as stop, sweep.sweep(arguments):
        jobs()
    assert stop.value.code == 130
