"""Tables as text: every format, what is not found, reductions, the README."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from distill_cli.errors import UserError
from distill_cli.tables.measured import measure_table
from distill_cli.tables.readme import update
from distill_cli.tables.registry import default_path, load
from distill_cli.tables.render import FORMATS, write
from distill_cli.tables.runs import seed_run
from distill_cli.tables.show import page

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def shown(small_table, put, tmp_path, locate):
    for seed, value in enumerate([0.961, 0.967, 0.955]):
        put(small_table.cells[0], seed, value)

    def show(*more):
        found = measure_table(small_table, lambda c, s: seed_run(c, s, tmp_path, (), locate))
        return page(small_table, found, more, ["outputs/x (broken)"])

    return show


def test_terminal_has_everything(shown):
    text = write(shown(), "terminal")
    line = next(line for line in text.splitlines() if line.startswith("mnist/ipc1/fixed"))
    for part in ("96.10 ± 0.60 (3)", "96.7 ± 0.2 %", "−0.60", "11 s", "502 MB", "done"):
        assert part in line
    digits = next(line for line in text.splitlines() if line.startswith("digits/ipc1/fixed"))
    assert "not found" in digits and "missing" in digits
    assert "1 published figures were not found: nobody knows" in text
    assert "distill -m method=rfad dataset=mnist ipc=10 seed=0,1,2 'evaluation=[krr_nngp]'" in text
    assert "Passed over: outputs/x (broken)" in text
    assert "Table 1 (read)" in text


def test_a_changed_setting_is_not_compared(shown):
    text = write(shown("hardware=cpu"), "terminal")
    assert "With hardware=cpu in every command: NOT the published setting." in text
    assert "−0.60" not in text
    assert "'evaluation=[krr_nngp]' hardware=cpu" in text


def test_csv_has_plain_numbers(shown):
    rows = list(csv.DictReader(io.StringIO(write(shown(), "csv"))))
    first = rows[0]
    assert float(first["accuracy_mean"]) == pytest.approx(96.1)
    assert (first["accuracy_n"], first["published_mean"], first["seeds"]) == ("3", "96.7", "0 1 2")
    assert rows[2]["published_mean"] == rows[2]["accuracy_mean"] == ""


def test_markdown_and_latex_have_as_many_cells_in_every_row(shown):
    table = [line for line in write(shown(), "markdown").splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    assert len({line.count("|") for line in table}) == 1
    latex = write(shown(), "latex")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 3
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
    assert r"\%" in latex and not re.search(r"(?<!\\)_", latex[latex.index(r"\toprule") :])


def test_html_is_well_formed_and_needs_nothing_else(shown):
    opened: list[str] = []

    class Check(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert not {"src", "href"} & {key for key, _ in attrs}
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Check().feed(write(shown(), "html"))
    assert not opened


def test_unknown_format(shown):
    with pytest.raises(UserError, match="format=pdf: unknown; choose one of csv, html"):
        write(shown(), "pdf")
    assert set(FORMATS) == {"terminal", "markdown", "csv", "latex", "html"}


def test_readme_between_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- results:small -->\nold\n<!-- end of results -->\nafter\n")
    entry = {
        "table": "small", "cell": "mnist/ipc1/fixed", "overrides": "", "metric": "accuracy",
        "mean": 96.1, "std": 0.6, "n": 3, "seconds": 11, "memory_mb": 502.0, "device": "cpu",
        "version": "1", "seeds": [0, 1, 2], "extra": {},
    }  # fmt: skip
    assert update(path, [entry], write_it=False) == (True, ["small"])
    assert "old" in path.read_text()
    update(path, [entry], write_it=True)
    text = path.read_text()
    assert text.startswith("before\n<!-- results:small -->\n| cell") and text.endswith("after\n")
    assert "| mnist/ipc1/fixed | 96.10 ± 0.60 | 3 | 11 s | 502 MB |" in text
    assert update(path, [entry], write_it=True) == (False, ["small"])
    with pytest.raises(UserError, match="distill-table record small"):
        update(path, [], write_it=True)
    path.write_text("nothing")
    with pytest.raises(UserError, match="has no markers"):
        update(path, [entry], write_it=True)


def test_the_readme_shows_the_registry():
    """`distill-table readme README.md` would change nothing."""
    changed, names = update(REPOSITORY / "README.md", load(default_path()), write_it=False)
    assert not changed and names == ["cpu_small"]
