"""The report of the theory bench: figures, tables and slopes of every study, on one HTML page.

Made from the studies' result files alone; written again it gives the same files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_cli.core.files import read_json, write_bytes, write_json
from distill_cli.errors import UserError
from distill_cli.report import theory_sections as sections
from distill_cli.report import words
from distill_cli.report.heat import data_uri
from distill_cli.report.results import write_text
from distill_cli.report.templating import render
from distill_cli.theory.slopes import study_slopes
from distill_cli.theory.study import names
from distill_cli.version import __version__

LEAD = (
    "A numerical study of the claim that distilling two-layer networks trained by gradient on a "
    "multi-index target of d inputs and r directions needs about r²d + L stored numbers, L the "
    "width (Kinoshita, Nishikawa, Toyoizumi, arXiv 2603.14830). Only the paper's abstract was "
    "available: the algorithms measured here realise the claim, they are not the paper's."
)
BANDS = (
    "The reference figures come from a separate prototype of the same algorithms, not from the "
    "paper. Bands: an error may be 50 % above its figure plus 0.01, an overlap 0.01 below; "
    "controls that must fail have a least error instead."
)


def write_report(results: Path, folder: Path) -> Path:
    """Write figures (PNG), slopes.json and report.html into `folder`; returns the page's path.

    results: folder of studies' result files, <study>.json. UserError where it holds none.
    """
    studies = [read_json(results / f"{name}.json") for name in names()]
    studies = [found for found in studies if isinstance(found, dict) and whole(found)]
    if not studies:
        raise UserError(
            f"results={results}: holds no result of a study; run distill-theory study=all first"
        )
    fits = {found["study"]: study_slopes(found) for found in studies}
    parts = []
    for found in studies:
        pictures = sections.figures(found, fits[found["study"]])
        for picture in pictures:
            write_bytes(folder / f"{picture.name}.png", picture.png)
        parts.append(shown(found, pictures, fits[found["study"]]))
    write_json(folder / "slopes.json", fits)
    return write_text(folder / "report.html", page(studies, parts))


def whole(study: Mapping[str, Any]) -> bool:
    """Whether a study's file has cells, all with their metrics, and its comparison."""
    cells = study.get("cells") or []
    return bool(cells) and all("metrics" in cell for cell in cells) and "comparison" in study


def page(studies: list[dict[str, Any]], parts: list[dict[str, Any]]) -> str:
    """The whole page, without any other file or the network. parts: what `shown` says of each."""
    judged = [i for s in studies for i in s["comparison"] if i["within"] is not None]
    within = sum(item["within"] for item in judged)
    cells = sum(len(s["cells"]) for s in studies)
    seconds = words.duration(sum(s["seconds"] for s in studies))
    facts = f"{cells} cells, {seconds} of computation on {studies[0]['device']}; "
    facts += f"{within} of {len(judged)} figures within their bands."
    title = "What distilled data encode: multi-index models"
    return render(
        "theory.html", title=title, lead=LEAD, version=__version__, facts=facts, bands=BANDS,
        studies=parts,
    )  # fmt: skip


def shown(
    study: Mapping[str, Any], pictures: list[sections.Figure], fits: list[dict[str, Any]]
) -> dict[str, Any]:
    """One study: command, figures, slopes, comparison, table of all cells."""
    head, rows = sections.table(study)
    against, figures, marks = sections.comparison(study)
    within = f"{len(figures) - sum(marks)} of {len(figures)} figures within their bands"
    seeds = study["cells"][0]["seeds"]
    over = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    return {
        "title": study["title"], "command": study["command"],
        "pictures": [{"caption": p.caption, "address": data_uri(p.png)} for p in pictures],
        "slopes": [slopes(fit) for fit in fits],
        "compared": {"summary": within, "head": against, "rows": figures, "marks": marks},
        "summary": f"All {len(rows)} cells: {over}", "head": head, "rows": rows,
    }  # fmt: skip


def slopes(fit: Mapping[str, Any]) -> dict[str, Any]:
    """A fitted slope and what it was fitted to."""
    head = [fit["what"], *(f"{group:g}" for group in fit["groups"])]
    needed = ["needed (interpolated)", *(words.decimal(v, 3) for v in fit["needed"])]
    grid = ["smallest measured", *(words.decimal(v, 3) for v in fit["grid"])]
    text = f"{fit['rule']}. Log-log slope {words.decimal(fit['slope'], 3)}"
    if fit["interval"]:
        low, high = fit["interval"]
        text += f", 95 % interval [{low:.3f}, {high:.3f}] over {fit['draws']} draws of the seeds"
    return {"head": head, "rows": [needed, grid], "note": f"{text} (n = {fit['n']})."}
