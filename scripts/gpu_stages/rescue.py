"""The best coreset of a run that is cut, from its newest intact checkpoint, as a small file.

The run's own pixel matrix and moments stay behind (100 MB and more), and so does preprocess.npz: a
37 MB whitening matrix, which distill-evaluate fits anew from the dataset of the recorded command
where no such file lies beside the coreset. initial.npz, real images in the run's own preprocessed
space, lets one see that the new transform is the run's.
"""

import dataclasses
import shlex
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill_cli.core.coreset_io import load_coreset, save_coreset
from distill_cli.core.files import read_json, write_json
from distill_cli.core.types import Coreset
from distill_cli.train.checkpoint import FORMAT, Checkpoints, Identity
from distill_cli.train.loop import Best, Progressed
from distill_cli.version import __version__
from gpu_stages.problems import distiller

OWN = ("out", "checkpoint", "progress", "evaluation", "snapshots", "dataset.data_dir")


def best_coreset(folder: Path, overrides: list[str], first: Coreset) -> tuple[int, Best] | None:
    """(step, best coreset so far) of the newest intact checkpoint of a run; None without one.

    folder: the run's; overrides: what its command said; first: its initial coreset.
    """
    steps = sorted((folder / "checkpoints").glob("*/record/metadata"))
    record = read_json(steps[-1]) if steps else None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    method, _ = distiller(
        [*overrides, "batch.micro=8"], first.images.shape[1:], first.labels.shape[1]
    )
    coreset = Coreset(*(np.zeros_like(part) for part in first))
    state = jax.eval_shape(method.init, jax.random.key(0), coreset)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    zero = np.asarray(0.0)
    like = Progressed(
        state, Best(coreset, np.asarray(0), zero, zero), zero, np.asarray(False), ()
    )  # sampler=uniform has no state
    identity = Identity(record["version"], record["digest"], record["dataset"])
    found = Checkpoints(folder / "checkpoints", identity, keep=1 << 30).restore(like)
    return None if found is None else (found[0], found[1].best)


def rescue(folder: Path, overrides: list[str], place: Path) -> dict[str, Any] | None:
    """Write place/{coreset,initial}.npz and manifest.json, which distill-evaluate coreset=PLACE
    reads; what they say, or None where the run has no checkpoint yet."""
    initial = folder / "coreset" / "steps" / "000000.npz"  # snapshots=[0]
    if not initial.is_file():
        return None
    first = load_coreset(initial)
    found = best_coreset(folder, overrides, first.coreset)
    if found is None:
        return None
    step, best = found
    classes = first.coreset.labels.shape[1]
    _, config = distiller(overrides, first.coreset.images.shape[1:], classes)
    names = first.class_names or tuple(map(str, range(classes)))
    save_coreset(place / "coreset.npz", best.coreset, names, config.method.ridge)
    shutil.copyfile(initial, place / "initial.npz")
    kept = [item for item in overrides if item.split("=")[0] not in OWN]
    manifest = {
        "schema": 1, "version": __version__, "command": shlex.join(["distill", *kept]),
        "method": config.method.name, "dataset": config.dataset.name, "ipc": config.ipc,
        "seed": config.seed, "labels": config.labels, "loss": config.loss,
        "steps": step, "best_step": int(best.step),
        "stop_reason": "all steps made" if step == config.steps else "cut by its time",
        "validation": {"loss": float(best.loss), "accuracy": float(best.accuracy)},
        "preprocess": dataclasses.asdict(config.preprocess),
        "coreset": {"path": "coreset.npz", "images": list(best.coreset.images.shape)},
    }  # fmt: skip
    write_json(place / "manifest.json", manifest)
    return manifest


def condensed(rows: list[dict[str, Any]], most: int = 120) -> dict[str, Any]:
    """metrics.jsonl in short: every validation, and at most `most` of the steps, evenly."""
    scored = [row for row in rows if "valid_loss" in row]
    stepped = [row for row in rows if "loss" in row]
    thin = stepped[:: max(1, -(-len(stepped) // most))]
    rates = [row["steps_per_second"] for row in stepped[2:] if row.get("steps_per_second")]
    found = {
        "validations": [
            [row["step"], row["valid_loss"], row["valid_accuracy"], row.get("seconds")]
            for row in scored
        ],
        "losses": [[row["step"], row["loss"], row.get("accuracy")] for row in thin],
        "steps": max((row["step"] + 1 for row in stepped), default=0),
        "steps_per_second": float(np.median(rates)) if rates else None,
    }
    if scored:
        found["best"] = min(scored, key=lambda row: row["valid_loss"])
    if len(stepped) > 1:
        span = stepped[-1]["seconds"] - stepped[0]["seconds"]
        found["steps_per_second_overall"] = (stepped[-1]["step"] - stepped[0]["step"]) / span
    return found
