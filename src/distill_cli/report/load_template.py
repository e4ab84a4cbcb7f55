"""load.py of a coreset: the script in standalone_load.py, copied as it is.

The script is an ordinary module of this package, so that it is linted, tested and used by the
reports themselves: what a user runs is what the pictures were made with.
"""

from importlib.resources import files
from pathlib import Path

from distill_cli.report.results import write_text


def write_load_py(folder: str | Path) -> Path:
    """Write `folder`/coreset/load.py and return its path; `folder` is that of the run."""
    source = files("distill_cli.data").joinpath("standalone_load.py").read_text(encoding="utf-8")
    return write_text(Path(folder) / "coreset" / "load.py", source)
