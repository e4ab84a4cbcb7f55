"""JSON files: lists of whole numbers on one line, every value as it was."""

import json
from pathlib import Path

from distill_cli.core.files import write_json


def test_lists_of_whole_numbers_stand_on_one_line(tmp_path: Path):
    value = {
        "matrix": [[1, 2, -3], [4, 5, 6]], "rows": [7], "floats": [1.5, 2], "large": [1e20, 3],
        "mixed": [True, 1], "empty": [], "text": ["[\n1,\n2\n]", "[ 1 , 2 ]", "[1,\\n 2]"],
    }  # fmt: skip
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    lines = [line.strip() for line in text.splitlines()]
    assert "[1, 2, -3]," in lines and "[4, 5, 6]" in lines and '"rows": [7],' in lines
    assert "1.5," in lines
