"""A measurement that is stopped goes on from the tiles that are finished, through the commands."""

import json
import pkgutil
from pathlib import Path

import pytest

from distill_cli.errors import RunStopped
from distill_cli.evaluation import kept_networks
from distill_cli.kernels.exact import kept, tiles
from tiny import TINY

MEASURE = ("evaluation=[krr_nngp]", "evaluation.limit=60", "architecture.width=8", "progress=plain")


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Small tiles; grows by one with every tile of the exact kernels."""
    monkeypatch.setattr(tiles, "ROWS", 4)
    monkeypatch.setattr(tiles, "tile_columns", lambda *_: 8)
    monkeypatch.setattr(kept, "EVERY", -1.0)
    found: list[int] = []
    original = tiles.tile

    def counted(*arguments):
        found.append(1)
        return original(*arguments)

    monkeypatch.setattr(tiles, "tile", counted)
    return found


def stopping(monkeypatch, where: str, after: int) -> None:
    """Stop a command's measurement after so many pieces, as a signal does."""
    calls = 0

    def reporter(job, stop):
        def report(what: str, fraction: float) -> None:
            nonlocal calls
            calls += 1
            if calls == after:
                raise RunStopped("stopped while evaluating", 130)

        return report

    monkeypatch.setattr(where, reporter)


@pytest.mark.parametrize("name", ["distill", "distill-evaluate"])
def test_a_stopped_measurement_goes_on(command, tmp_path, monkeypatch, computed, name):
    if name == "distill":
        words = (*TINY, "method=random", *MEASURE)
        where = "distill_cli.tasks.distill.make_reporter"
    else:
        done = command("distill", *TINY, "method=random", "evaluation=none", "out=made")
        assert done.code == 0, done.err
        (file,) = (tmp_path / "made").rglob("coreset/coreset.npz")
        words = (f"coreset={file.parents[1]}", *MEASURE)
        where = "distill_cli.tasks.evaluate.make_reporter"
    computed.clear()
    whole = command(name, *words, "out=whole")
    assert whole.code == 0, whole.err
    every = len(computed)
    assert not list(tmp_path.rglob("partial"))  # taken away with the last row

    with monkeypatch.context() as patched:
        stopping(patched, where, 9)
        assert command(name, *words, "out=cut").code == 130
    (folder,) = tmp_path.rglob("partial")
    assert len(list(folder.iterdir())) == 2  # coreset with itself, test images with the coreset
    computed.clear()
    again = command(name, *words, "out=cut")
    assert again.code == 0, again.err
    assert len(computed) == every - 9
    assert not list(tmp_path.rglob("partial"))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


NETWORKS = {
    "dc": ("evaluation=[dc]", "evaluation.dc.epochs=1", "evaluation.dc.width=8"),
    "finite": ("evaluation=[finite]", "evaluation.finite.width=8", "evaluation.finite.max_steps=4"),
}


@pytest.mark.parametrize("protocol", NETWORKS)
def test_finished_networks_are_not_trained_again(command, tmp_path, monkeypatch, protocol):
    """Three networks on the coreset, three on random real images; stopped within the fifth."""
    monkeypatch.setattr(kept_networks, "LEAST", -1.0)
    module = {"dc": "protocol", "finite": "finite"}[protocol]
    train = {"dc": "train", "finite": "train_finite"}[protocol]
    place = f"distill_cli.evaluation.{module}.{train}"
    original = pkgutil.resolve_name(place)
    trained: list[int] = []

    def counted(*arguments, **named):
        trained.append(1)
        if len(trained) == stop_at:
            raise RunStopped("stopped while evaluating", 130)
        return original(*arguments, **named)

    monkeypatch.setattr(place, counted)
    words = (
        *TINY, "method=random", "init=herding", "evaluation.networks=3", "dataset.limit_test=30",
        *NETWORKS[protocol],
    )  # fmt: skip
    stop_at = 0
    whole = command("distill", *words, "out=whole")
    assert whole.code == 0, whole.err
    assert len(trained) == 6 and not list(tmp_path.rglob("partial"))

    trained.clear()
    stop_at = 5
    assert command("distill", *words, "out=cut").code == 130
    files = list(tmp_path.rglob("partial/*.networks"))
    assert sorted(len(file.read_bytes().splitlines()) for file in files) == [1, 3]
    trained.clear()
    stop_at = 0
    again = command("distill", *words, "out=cut")
    assert again.code == 0, again.err
    assert len(trained) == 2
    assert not list(tmp_path.rglob("partial"))
    assert timeless(rows(tmp_path / "cut")) == timeless(rows(tmp_path / "whole"))


def timeless(tree):
    """A tree without what is called seconds."""
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key != "seconds"}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def rows(out: Path) -> list[dict]:
    """What was measured, without times."""
    (file,) = [*out.rglob("result.json"), *out.rglob("evaluation.json")]
    found = json.loads(file.read_text())["evaluations"]
    for row in found:
        row.pop("seconds")
        row.pop("command", None)
        row["baseline_random"].pop("seconds")
    return found
