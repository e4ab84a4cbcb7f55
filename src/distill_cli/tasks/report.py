"""task report: one page over many runs, in a folder of its own."""

from dataclasses import dataclass
from pathlib import Path

from distill_cli.config import at_least
from distill_cli.core.files import check_out
from distill_cli.errors import UserError
from distill_cli.report.collect import Collection, collect
from distill_cli.typed import out_folder

INDEX = "index.html"
MARK = "distill_cli"  # every page of ours says who made it


@dataclass(frozen=True)
class Config:
    """runs: folders that are searched for runs; out: the page's folder; title: its heading; images:
    most images of a class in a gallery; figures: also write the figures as PNG and SVG."""

    runs: tuple[str, ...]
    out: str = "report"
    title: str = "Dataset distillation runs"
    images: int = 5
    figures: bool = True

    def __post_init__(self) -> None:
        at_least("images", self.images, 1)
        if not self.runs:
            raise UserError(
                "runs: missing; give a folder that holds runs: distill-report runs=outputs"
            )


def run(config: Config) -> list[str]:
    """Write the page; lines to print: what was made, what was skipped and why.

    UserError where no folder holds a finished run, or another page lies at `out`.
    """
    out = out_folder(config.out)
    check_out(out)
    check_page(out)
    found = collect(Path(folder).expanduser() for folder in config.runs)
    passed = [f"skipped: {s.folder}: {s.reason}" for s in found.skipped]
    if not found.runs:
        reason = f"; {passed[0]}" if passed else ""
        more = f", and {len(passed) - 1} more" if len(passed) > 1 else ""
        raise UserError(f"{', '.join(config.runs)}: no finished run{reason}{more}")
    from distill_cli.report.site import write_site

    made = write_site(found, out, config.title, config.images, config.figures)
    return [*passed, *noted(found), said(found, made.page, len(made.figures))]


def check_page(out: Path) -> None:
    """UserError where a page that is not ours is in the way."""
    page = out / INDEX
    if page.is_file() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"out={out}: holds an index.html of something else; choose another folder")


def noted(found: Collection) -> list[str]:
    """Version mismatches and other notes, one line a run."""
    return [f"note: {r.folder}: {'; '.join(r.notes)}" for r in found.runs if r.notes]


def said(found: Collection, page: Path, figures: int) -> str:
    """The last line."""
    size = page.stat().st_size / 2**20
    beside = f", {figures} files in figures/" if figures else ""
    return f"report   {page} ({len(found.runs)} runs, {size:.1f} MiB{beside})"
