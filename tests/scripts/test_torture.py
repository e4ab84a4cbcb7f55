"""The fault campaign: a small one ends well, and it notices what is wrong."""

import json
import sys

import numpy as np
import pytest
from test_scripts import SCRIPTS, one_line_refusal, run

sys.path.insert(0, str(SCRIPTS))

from faults.campaigns import difference
from faults.jobs import essence
from faults.process import Ended

pytestmark = pytest.mark.process


def test_torture(tmp_path):
    place = tmp_path / "torture"
    some = ("--jobs", "export", "--share", "0.01", "--work", str(tmp_path / "work"))
    done = run("torture.py", *some, "--out", str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(place.with_suffix(".json").read_text())
    assert found["wrong"] == 0
    assert set(found["campaigns"]) == {"kills", "signals", "pairs", "disk", "damage", "clock"}
    for one in found["campaigns"].values():
        assert one["cases"] == one["right"] == len(one["rows"]) > 0
    one_line_refusal(run("torture.py", "--only", "kills,fire"), "--only=fire", "clock")
    one_line_refusal(run("torture.py", "--jobs", "dance"), "--jobs=dance", "sweep")
    one_line_refusal(run("torture.py", "--share", "2"), "--share=2.0")


@pytest.mark.parametrize(
    ("code", "said", "complaint"),
    [
        (0, "", ""),
        (0, "WARNING: a damaged file; it is measured again\nnote: code changed\n", ""),
        (2, "error: ipc=0: must be at least 1\n", ""),
        (130, "\nstopping at the next safe point\nstopped: by SIGINT\n", ""),
        (-9, "", ""),
        (-15, "", ""),
        (1, "", "0 lines say why it ended with 1"),
        (2, "error: a\nerror: b\n", "2 lines say why"),
        (0, "2026 E0000 something of C++\n", "an odd line: 2026"),
        (1, "error: x\nTraceback (most recent call last)\n", "a traceback"),
    ],
)
def test_what_a_command_says(code, said, complaint):
    found = Ended(code, said, 1.0).complaint
    assert found.startswith(complaint) and bool(found) == bool(complaint)


def test_what_a_command_leaves(tmp_path):
    def result(name: str, images: np.ndarray, **more: object) -> None:
        folder = tmp_path / name / "rfad" / "0123abcd"
        folder.mkdir(parents=True)
        np.savez(folder / "coreset.npz", images=images)
        found = {"accuracy": 0.5, "seconds": {"total": 3}, "config": {"out": name}} | more
        (folder / "result.json").write_text(json.dumps(found))

    ones = np.ones((2, 3), np.float32)
    result("a", ones)
    result("b", ones.copy(), cpu_seconds=9)
    result("c", np.nextafter(ones, 2))
    result("d", ones, accuracy=0.6)
    first, same, bits, number = (essence(tmp_path / name) for name in "abcd")
    assert difference(first, same) == ""
    assert difference(first, bits) == "other content: rfad/#/coreset.npz"
    assert difference(first, number) == "other content: rfad/#/result.json"
    assert "missing: rfad/#/coreset.npz" in difference(first, {})
