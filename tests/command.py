"""Running the commands in this process: exit code, output, and a private output folder."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, tmp_path, capsys) -> Callable[..., Done]:
    """command("distill", "ipc=1", ...) runs an entry point in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "cache"))

    def run(name: str, *arguments: str) -> Done:
        from hydra.core.global_hydra import GlobalHydra

        from distill_cli.cli import apply, distill, evaluate, export, report, table, theory

        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        mains = {
            "distill": distill.main,
            "distill-evaluate": evaluate.main,
            "distill-export": export.main,
            "distill-apply": apply.main,
            "distill-report": report.main,
            "distill-table": table.main,
            "distill-theory": theory.main,
        }
        main = mains[name]
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return Done(code, *capsys.readouterr())

    return run
