"""The lock of a result folder: one holder, who alone may clean up."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from distill_cli.core import lock
from distill_cli.errors import UserError


def test_one_holds_and_the_other_touches_nothing(tmp_path):
    folder = tmp_path / "a" / "b"
    with lock.locked(folder):
        (folder / ".hydra").mkdir()
        with pytest.raises(UserError, match="another distill is running"):
            lock.locked(folder).__enter__()
        lock.remove_if_unused(folder)
        assert (folder / ".hydra").is_dir()
        assert lock.is_locked(folder)
    assert not lock.is_locked(folder)
    lock.remove_if_unused(folder)
    assert not (tmp_path / "a").exists()


def test_a_used_folder_stays(tmp_path):
    folder = tmp_path / "run"
    with lock.locked(folder):
        (folder / "metrics.jsonl").touch()
    lock.remove_if_unused(folder)
    assert (folder / "metrics.jsonl").exists()


def test_the_working_directory_stays(tmp_path, monkeypatch):
    here = tmp_path / "above" / "here"
    run = here / "random" / "digits"
    run.mkdir(parents=True)
    monkeypatch.chdir(here)
    lock.remove_if_unused(Path("random/digits"))
    assert here.is_dir() and not list(here.iterdir())
    lock.remove_if_unused(Path("."))
    assert here.is_dir()


def test_a_missing_folder_is_not_made(tmp_path):
    lock.remove_if_unused(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_lock_on_a_removed_file_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking, the former holder removes the folder."""
    folder = tmp_path / "run"
    real, left = lock.fcntl.flock, [folder, folder]

    def flock(handle, how):
        if left:
            (left.pop() / lock.NAME).unlink()
            folder.rmdir()
        real(handle, how)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock.locked(folder):
        assert not left
        monkeypatch.undo()
        assert lock.is_locked(folder)


def test_looking_at_a_lock_does_not_take_it(tmp_path):
    """A look holds a shared lock for a moment; who starts then is not refused."""
    looking = (tmp_path / lock.NAME).open("w")
    lock.fcntl.flock(looking, lock.fcntl.LOCK_SH)
    threading.Timer(0.03, looking.close).start()
    with lock.locked(tmp_path):
        pass


HAMMER = """
import sys, pathlib
from distill_cli.core import lock
from distill_cli.errors import UserError
folder = pathlib.Path(sys.argv[1]) / "a" / "b"
held = 0
for _ in range(300):
    try:
        with lock.locked(folder):
            mine = folder / "mine"
            mine.touch(exist_ok=False)  # FileExistsError where two hold it
            mine.unlink()
            held += 1
    except UserError:
        pass
    lock.remove_if_unused(folder)
print(held)
"""


def test_holders_and_cleaners_in_many_processes(tmp_path):
    """Never two holders, never a folder that vanishes under its holder."""
    argv = [sys.executable, "-c", HAMMER, str(tmp_path)]
    running = [subprocess.Popen(argv, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    said = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], said
    assert all(int(out) > 0 for out, _ in said)
    assert not (tmp_path / "a").exists()
