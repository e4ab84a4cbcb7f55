"""rerun=: what becomes of a run that other code made, finished or half done."""

import json

import pytest

from tiny import TINY

WORDS = (*TINY, "evaluation=[krr_nngp]", "evaluation.limit=20", "evaluation.baseline=false")


@pytest.fixture
def made(command, tmp_path):
    """A finished run's folder."""
    assert command("distill", *WORDS).code == 0
    (result,) = tmp_path.rglob("result.json")
    return result.parent


def edit(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def other_method(found):
    found["code"]["methods.rfad"] = "00000000"


def mark(folder):
    """Something to recognise the former result by."""
    edit(folder / "result.json", lambda found: found.update(mark=1))


def marked(folder):
    return "mark" in json.loads((folder / "result.json").read_text())


def test_the_same_code_says_nothing(command, made):
    result = json.loads((made / "result.json").read_text())
    assert "methods.rfad" in result["code"]
    assert "evaluation.krr_nngp" not in result["code"]
    assert len(result["evaluations"][0]["code"]) == 8
    done = command("distill", *WORDS, "rerun=changed")
    assert "finished before" in done.out
    assert done.err == ""
    assert "rerun" not in result["command"]


def test_other_code_is_named(command, made):
    edit(made / "result.json", other_method)
    done = command("distill", *WORDS)
    assert "finished before" in done.out
    assert "made by other code (methods.rfad changed); rerun=changed runs it again" in done.err


def test_changed_runs_again_and_keeps_what_was_there(command, made):
    before = (made / "coreset" / "coreset.npz").read_bytes()
    edit(made / "result.json", other_method)
    mark(made)
    done = command("distill", *WORDS, "rerun=changed")
    assert done.code == 0
    assert not marked(made)
    assert json.loads((made / "former" / "result.json").read_text())["mark"] == 1
    assert (made / "coreset" / "coreset.npz").read_bytes() == before
    assert (made / "former" / "coreset" / "coreset.npz").read_bytes() == before


def test_always_runs_a_finished_one_again(command, made):
    mark(made)
    assert "finished before" in command("distill", *WORDS).out
    assert command("distill", *WORDS, "rerun=always").code == 0
    assert not marked(made)


def test_half_done_by_other_code(command, made):
    before = (made / "coreset" / "coreset.npz").read_bytes()
    (made / "result.json").unlink()
    records = list(made.glob("checkpoints/*/record/metadata"))
    for record in records:
        edit(record, other_method)
    done = command("distill", *WORDS)
    assert done.code == 2
    (line,) = done.err.strip().splitlines()
    assert "begun with other code (methods.rfad changed)" in line
    assert "rerun=never" in line
    assert all(record.exists() for record in records)
    done = command("distill", *WORDS, "rerun=never")
    assert done.code == 0
    assert "made by other code" in done.err
    assert (made / "coreset" / "coreset.npz").read_bytes() == before


def test_half_done_begins_anew_with_changed(command, made):
    (made / "result.json").unlink()
    for record in made.glob("checkpoints/*/record/metadata"):
        edit(record, other_method)
    assert command("distill", *WORDS, "rerun=changed").code == 0
    assert (made / "former" / "checkpoints").is_dir()
    assert (made / "result.json").exists()


def test_a_run_without_a_record_of_its_code_is_taken(command, made):
    """Runs from before fingerprints were kept."""
    edit(made / "result.json", lambda found: found.pop("code"))
    done = command("distill", *WORDS, "rerun=changed")
    assert "finished before" in done.out
    assert done.err == ""


def test_an_edited_protocol(command, made):
    def other(found):
        found["evaluations"][0].update(code="00000000", mark=1)

    edit(made / "result.json", other)
    assert "other code measured krr_nngp" in command("distill", *WORDS).err
    assert command("distill", *WORDS, "rerun=changed").code == 0
    (row,) = json.loads((made / "result.json").read_text())["evaluations"]
    assert "mark" not in row


def test_a_file_called_former_is_not_lost(command, tmp_path):
    assert command("distill", *WORDS).code == 0
    (result,) = tmp_path.rglob("result.json")
    (result.parent / "former").write_text("mine")
    done = command("distill", *WORDS, "rerun=always")
    assert done.code == 2 and "former: a file is where a folder is needed" in done.err
    assert (result.parent / "former").read_text() == "mine"
    assert result.is_file()
