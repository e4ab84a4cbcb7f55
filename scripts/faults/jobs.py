"""The commands that are tortured, in sizes of seconds, and what of their results has to stay."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SMALL = ("steps=60", "architecture.width=8", "kernel.networks=2", "batch.size=64",
         "validation.every=10", "validation.networks=2", "checkpoint.seconds=0", "labels=learned",
         "progress=plain")  # fmt: skip
MEASURE = ("evaluation=[krr_nngp,krr_ntk]", "evaluation.limit=60")
TABLE = """
title: A table of two runs
command: distill {words} seed={{seed}}
seeds: [0, 1]
rows: {{axes: {{ipc: [1]}}}}
columns: {{only: {{}}}}
metrics: [{{kind: accuracy, protocol: krr_nngp, title: accuracy}}]
"""
# Numbers that differ between two runs of the same command.
TIMES = re.compile(
    r"seconds|time|memory|gflops|command|path|date|digest|code|environment|version|folder|host|^out$"
)


class Job(NamedTuple):
    """A command: `words` with {out} for its folder of results, {made} for a finished run and {work}
    for the folder that holds both; `again`: whether the same words finish what was cut off."""

    name: str
    words: tuple[str, ...]

    def line(self, work: Path, out: Path, made: Path) -> list[str]:
        """The words with folders filled in."""
        return [word.format(out=out, made=made, work=work) for word in self.words]


JOBS = (
    Job("distill", ("distill", *SMALL, *MEASURE, "out={out}")),
    Job("sweep", ("distill", "-m", "seed=1,2", *SMALL, "evaluation=none", "out={out}")),
    Job("evaluate", ("distill-evaluate", "coreset={made}", *MEASURE, "out={out}")),
    Job("export", ("distill-export", "coreset={made}", "format=torch", "overwrite=true",
                   "out={out}")),
    Job("apply", ("distill-apply", "explain", "coreset={made}", "train_images=100",
                  "dataset.limit_test=60", "out={out}", "progress=plain")),
    Job("theory", ("distill-theory", "variant=multi_step", "d=6", "L=16", "n=2000", "pool=128",
                   "batch=32", "steps=10", "readout=500", "test=500", "seed=[0,1]", "out={out}")),
    Job("table", ("distill-table", "run", "{work}/torture.yaml", "out={out}")),
)  # fmt: skip


def write_table(work: Path) -> None:
    """The table of the job `table`."""
    words = " ".join([*SMALL, '"evaluation=[krr_nngp]"', "evaluation.limit=60"])
    (work / "torture.yaml").write_text(TABLE.format(words=words))


def essence(out: Path) -> dict[str, str]:
    """Digests of what a command leaves, by file: arrays of coresets bit for bit, numbers of its
    results without times; the same for two runs that are the same."""
    found: dict[str, list[str]] = {}
    for path in files(out):
        name = re.sub(r"[0-9a-f]{8}(?=/|-|$)", "#", path.relative_to(out).as_posix())
        if path.suffix == ".npz" and "checkpoints" not in path.parts:
            digest = arrays(path)
        elif path.suffix == ".pt":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name in ("result.json", "evaluation.json"):
            numbers = json.dumps(without_times(json.loads(path.read_text())), sort_keys=True)
            digest = hashlib.sha256(numbers.encode()).hexdigest()
        else:
            continue
        found.setdefault(name, []).append(digest)
    return {name: " ".join(sorted(digests)) for name, digests in found.items()}


def files(folder: Path) -> Iterable[Path]:
    """All files of a folder, in order; what disappears meanwhile is left out."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def arrays(path: Path) -> str:
    """A digest of an npz file's arrays, whatever the archive around them."""
    total = hashlib.sha256()
    with np.load(path, allow_pickle=False) as data:
        for name in sorted(data.files):
            array = np.ascontiguousarray(data[name])
            total.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()


def without_times(tree: Any) -> Any:
    """A result without what no two runs share."""
    if isinstance(tree, dict):
        return {k: without_times(v) for k, v in tree.items() if not TIMES.search(str(k))}
    return [without_times(value) for value in tree] if isinstance(tree, list) else tree
