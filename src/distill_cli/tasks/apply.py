"""What the applications share: their folder, resuming, results, tables and the page."""

import contextlib
import csv
import dataclasses
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.core.coreset_io import sha256
from distill_cli.core.files import write_bytes, write_json
from distill_cli.core.fingerprint import code_of
from distill_cli.report.heat import data_uri
from distill_cli.report.templating import Markup, macro, render
from distill_cli.report.words import flatten
from distill_cli.tasks.code import code_of_run, differing, note_changed
from distill_cli.tasks.distill import run as run_distill
from distill_cli.tasks.finished import agreeing, whole
from distill_cli.tasks.job import Job, as_tree, environment
from distill_cli.tasks.measure import PARTIAL
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.runtime import Stopwatch, configure_jax, log_file, peak_memory_mb
from distill_cli.version import __version__

Row = dict[str, Any]
PAGE = "report.html"
SHOWN = ("html", "png", "csv")  # what an application shows beside its result.json
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Application:
    """One command: settings (section apply), config (a run's Config; explain: a Target), folder,
    command, digest, and job(changes): the inner run that these overrides make of the command."""

    settings: Any
    config: Any
    folder: Path
    command: str
    digest: str
    job: Callable[[Sequence[str]], Job]

    @property
    def code(self) -> dict[str, str]:
        """Fingerprints of the modules that decide its runs and its own figures."""
        name = self.settings.name
        own = (f"distill_cli.tasks.apply_{name}", f"distill_cli.apply.{name}")
        return code_of_run(getattr(self.config, "config", self.config)) | code_of(own)

    def identity(self) -> Row:
        """What a result or a ledger must agree with to be gone on with."""
        return {
            "schema": 1, "version": __version__, "application": self.settings.name,
            "digest": self.digest,
        }  # fmt: skip


class Ledger:
    """Rows that are finished, by name, in progress.json; a killed application goes on behind them.

    Rows of another version or another command are dropped.
    """

    def __init__(self, application: Application) -> None:
        self._path = application.folder / "progress.json"
        self._identity = application.identity()
        found = agreeing(self._path, {"identity": self._identity})
        self._rows: dict[str, Any] = found["rows"] if found else {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The row of this name, made and kept if it is not there."""
        if name not in self._rows:
            made = json.loads(json.dumps(make(), allow_nan=False))
            self._rows[name] = made
            write_json(self._path, {"identity": self._identity, "rows": self._rows})
        return self._rows[name]


def finished(application: Application, hashes: Mapping[str, str] | None = None) -> Row | None:
    """result.json of this very command, if it is there with all its files; hashes: of its
    coresets. Where a file is gone, the application is computed again from its ledger."""
    identity = application.identity() | ({} if hashes is None else {"hashes": dict(hashes)})
    found = agreeing(application.folder / "result.json", identity)
    if found is None or not whole(application.folder, dict.fromkeys(found.get("files", [PAGE]))):
        return None
    differs = differing(found, application.code)
    note_changed(application.folder, differs, "another out= runs it again")
    return found


@contextlib.contextmanager
def at_work(application: Application, say_plan: str) -> Iterator[Stopwatch]:
    """Numerics and log of an application's own work; its command holds the folder's lock."""
    configure_jax()
    with log_file(application.folder / "apply.log"):
        say(application, say_plan)
        yield Stopwatch()


def say(application: Application, text: str) -> None:
    """Print, unless progress=none, and keep in the log."""
    log.info(text)
    config = getattr(application.config, "config", application.config)
    if config.progress != "none":
        print(text, flush=True)


def distilled(job: Job) -> Row:
    """Run a job (or find it finished) and say where its coreset is: folder, command, sha256."""
    result = run_distill(job)
    return {
        "folder": str(job.folder), "command": job.command, "sha256": sha256(job.coreset_file),
        "method": result["method"], "ipc": result["ipc"], "seed": result["seed"],
        "labels": result["labels"], "init": result["init"], "steps": result["steps"],
        "best_step": result["best_step"], "images": result["coreset"]["images"],
        "validation": result["validation"], "seconds": result["seconds"],
        "evaluations": result["evaluations"],
    }  # fmt: skip


def result_of(application: Application, config: Any, watch: Stopwatch, **content: Any) -> Row:
    """The frame of result.json around an application's own content."""
    return {
        **application.identity(), "code": application.code, "command": application.command,
        "dataset": config.dataset.name, "settings": dataclasses.asdict(application.settings),
        "config": as_tree(config), "device": device_name(), "environment": environment(),
        "peak_memory_mb": peak_memory_mb(), "seconds": {"this_call": watch.total()}, **content,
    }  # fmt: skip


@dataclass
class Page:
    """report.html: title, lead, sections in order. All content is inside the file."""

    title: str
    lead: str
    sections: list[tuple[str, tuple[Markup, ...]]] = field(default_factory=list)

    def add(self, heading: str, *pieces: Markup) -> None:
        """A section; pieces are HTML, empty ones are left out."""
        self.sections.append((heading, tuple(piece for piece in pieces if piece)))

    def html(self, result: Row) -> str:
        """The page, with the settings and the command behind the sections."""
        frame = [("Device", result["device"]), ("Version", result["version"])]
        return render(
            "application.html", title=self.title, lead=self.lead, version=result["version"],
            sections=self.sections, settings=flatten(result["settings"]),
            configuration=flatten(result["config"]), command=result["command"],
            environment=[*frame, *flatten(result["environment"])],
        )  # fmt: skip


def note(text: str) -> Markup:
    """A paragraph of explanation."""
    return macro("parts.html", "note")(text)


def figure(png: bytes, described: str) -> Markup:
    """A picture inside the page."""
    return macro("parts.html", "picture")(data_uri(png), described)


def side_by_side(pieces: Sequence[Markup]) -> Markup:
    """Pieces in two columns where the page is wide enough."""
    return macro("parts.html", "side_by_side")(pieces)


def write_png(application: Application, name: str, png: bytes) -> bytes:
    """Write a picture beside result.json; the bytes again, for the page."""
    write_bytes(application.folder / name, png)
    return png


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal keys as CSV; floats with six significant digits."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_bytes(path, buffer.getvalue().encode())


def finish(application: Application, result: Row, page: Page) -> Row:
    """Write report.html, then result.json, which says that the application is done."""
    folder = application.folder
    write_bytes(folder / PAGE, page.html(result).encode())
    shown = {path.name for kind in SHOWN for path in folder.glob(f"*.{kind}")}
    result["files"] = sorted(shown)
    write_json(application.folder / "result.json", result)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    say(application, f"result   {folder / PAGE}")
    return result
