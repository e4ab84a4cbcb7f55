"""The script that writes the tables of docs/configuration.md, and the committed document."""

import subprocess
import sys
from pathlib import Path

import pytest

from distill_cli.cli.help import document, entries
from distill_cli.errors import UserError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make_configuration_doc.py"
DOCUMENT = ROOT / "docs" / "configuration.md"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_the_committed_document_is_the_generated_one():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert document.updated(text) == text, "run scripts/make_configuration_doc.py"


def test_every_key_stands_in_the_document():
    """In a table of its purpose, or, for methods, of the choice."""
    text = DOCUMENT.read_text(encoding="utf-8")
    asked = document.marked(text)
    assert len(set(asked)) == len(asked) and "groups" in asked
    for name in [file for files in entries.FILES.values() for file in files]:
        page = entries.page(name)
        for section in page.sections:
            if section.hidden:
                continue
            wanted = f"{name}/{section.purpose}"
            of_choice = [one for one in asked if one.startswith(f"{wanted}=")]
            assert wanted in asked or of_choice, wanted
            table = "\n".join(
                line for one in asked if one == wanted or one in of_choice
                for line in document.lines_of(one)
            )  # fmt: skip
            for entry in section.entries:
                assert (entry.short or entry.key.rpartition(".")[2]) in table, entry.key
                assert entry.meaning.replace("|", "\\|") in table or entry.of_group


@pytest.mark.process
def test_make_configuration_doc(tmp_path):
    """It writes a changed table back, --check only says so, and prose stays."""
    assert run("--check").returncode == 0
    text = DOCUMENT.read_text(encoding="utf-8")
    changed = tmp_path / "c.md"
    changed.write_text("My words.\n" + text.replace("images per class", "IMAGES PER CLASS", 1))
    before = changed.read_bytes()
    done = run("--check", str(changed))
    assert done.returncode == 1 and "differ from the table of keys" in done.stderr
    assert changed.read_bytes() == before
    done = run(str(changed))
    assert done.returncode == 0 and "rewritten" in done.stdout
    assert changed.read_text(encoding="utf-8") == "My words.\n" + text
    assert "up to date" in run(str(changed)).stdout


@pytest.mark.process
def test_make_configuration_doc_refuses_what_it_cannot_write(tmp_path):
    for text in ("no marker\n", "<!-- keys:distill/nothing -->\n<!-- end of keys -->\n"):
        (tmp_path / "x.md").write_text(text)
        done = run(str(tmp_path / "x.md"))
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert (tmp_path / "x.md").read_text() == text
    done = run(str(tmp_path / "none.md"))
    assert done.returncode == 2 and "No such file" in done.stderr


@pytest.mark.parametrize("asked", ["nothing/run", "distill/nothing", "distill/method=rfda", ""])
def test_an_unknown_marker(asked):
    with pytest.raises(UserError, match="no such table"):
        list(document.lines_of(asked))


def test_neighbours_share_a_row_and_bars_are_escaped():
    lines = list(document.lines_of("distill/run"))
    (growth,) = [line for line in lines if "growth.networks" in line]
    assert growth.startswith("| `growth.networks`, `.width`, `.batch` | [] |")
    assert document.row("a|b", "c") == "| a\\|b | c |"
    assert document.names(["a.b", "c.b"]) == "`a.b`, `c.b`"
