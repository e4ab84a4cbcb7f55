#!/usr/bin/env python3
"""Set up and run, from a fresh clone: needs Python 3.11 to 3.13 with pip and venv, nothing else.

    python3 scripts/run.py distill [options]            the command of the same name
    python3 scripts/run.py distill-table [options]      likewise the other commands, distill-...
    python3 scripts/run.py test [pytest options]        the test suite

Makes .venv in the repository (or in $DISTILL_VENV) the first time and whenever the dependencies
change, with the versions of constraints.txt.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("evaluate", "export", "table", "report", "apply", "theory")
COMMANDS = ("distill", *(f"distill-{task}" for task in TASKS), "test")


def main(arguments: list[str]) -> int:
    """Exit code of the command."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return fail(f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}")
    if not arguments or arguments[0] not in COMMANDS:
        return fail(f"give one of: {', '.join(COMMANDS)}; for example scripts/run.py distill")
    name, *rest = arguments
    folder = Path(os.environ.get("DISTILL_VENV", ROOT / ".venv"))
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    install(folder, binaries, development=name == "test")
    if name == "test":
        workers = ["-n", "auto", "--maxprocesses", "4"]  # most time goes to compilation
        command = [str(binaries / "python"), "-m", "pytest", *workers, *rest]
        return subprocess.call(command, cwd=ROOT)
    return subprocess.call([str(binaries / name), *rest])


def install(folder: Path, binaries: Path, development: bool) -> None:
    """Create the environment and install into it, unless that was done for these very files."""
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    state = f"{digest} {sys.version_info[:2]}"
    stamps = [folder / f".installed-{kind}" for kind in ("main", "development")]
    wanted = stamps[1] if development else stamps[0]
    if any(s.is_file() and s.read_text() == state for s in {wanted, stamps[1]}):
        return
    print(f"setting up {folder} (once, a minute or two)", file=sys.stderr, flush=True)
    if not (binaries / "python").exists() and not (binaries / "python.exe").exists():
        venv.create(folder, with_pip=True)
    pip = [str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    pinned = ["-c", str(ROOT / "constraints.txt")]
    target = ["-e", f"{ROOT}[test]" if development else str(ROOT)]
    subprocess.check_call([*pip, *pinned, *target])
    wanted.write_text(state)


def fail(message: str) -> int:
    """Print one line; exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
