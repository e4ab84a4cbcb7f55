"""Small settings of the applications' tests, and how their results are read."""

import json
from pathlib import Path

TINY = [
    "architecture.width=8", "kernel.networks=1", "batch.size=64", "validation.every=10",
    "validation.networks=1", "steps=10", "method.transform=false", "progress=none",
]  # fmt: skip


def result_of(tmp_path: Path, application: str) -> tuple[Path, dict]:
    (file,) = (tmp_path / "outputs" / "apply" / application).rglob("result.json")
    return file.parent, json.loads(file.read_text())


def check_page(folder: Path) -> None:
    """The page stands by itself."""
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
