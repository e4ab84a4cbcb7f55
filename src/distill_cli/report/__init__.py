"""Reports of a finished run, made from its result files alone.

    write_all(folder)   everything: load.py, images.png, card.md, citations.bib, report.html

Nothing here imports jax or the parts that compute; a report can be made again on any machine.
"""

from pathlib import Path

FILES = (
    "coreset/load.py", "coreset/images.png", "coreset/card.md", "citations.bib", "report.html",
)  # fmt: skip


def write_all(folder: str | Path) -> list[Path]:
    """Write every report of the run in `folder` and return the paths, each file atomically.

    Needs result.json (UserError without it). What belongs to the coreset is written where
    coreset/coreset.npz exists. Writing again gives the same files.
    """
    from distill_cli.report.card import write_card
    from distill_cli.report.citations import write_citations
    from distill_cli.report.coreset_files import read_coreset
    from distill_cli.report.html import write_report
    from distill_cli.report.images import write_grid
    from distill_cli.report.load_template import write_load_py
    from distill_cli.report.results import read_result
    from distill_cli.report.words import run_title

    folder = Path(folder)
    result = read_result(folder)
    written: list[Path] = []
    coreset = read_coreset(folder)
    if coreset:
        written += [
            write_load_py(folder),
            write_grid(
                folder / "coreset" / "images.png",
                coreset.distilled.pixels,
                coreset.coreset.labels,
                coreset.coreset.class_names,
                result.ipc or None,
                run_title(result),
                coreset.distilled.note(),
            ),
            write_card(folder, result, coreset),
        ]
    return [*written, write_citations(folder, result), write_report(folder, coreset)]
