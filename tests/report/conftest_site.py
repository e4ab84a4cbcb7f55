"""Several run folders as sweeps leave them: two methods, seeds, curves, calibration."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from conftest import make_run
from distill_cli.version import __version__

BINS = [
    {"low": i / 5, "high": (i + 1) / 5, "images": n, "confidence": c, "accuracy": a}
    for i, (n, c, a) in enumerate(
        [(0, None, None), (10, 0.3, 0.2), (40, 0.5, 0.6), (30, 0.7, 0.8), (20, 0.9, 1.0)]
    )
]
ACCURACIES = {("rfad", 0): 0.70, ("rfad", 1): 0.74, ("rfad", 2): 0.75,
              ("kip", 0): 0.60, ("kip", 1): 0.65}  # fmt: skip


def change(run: Path, **values: object) -> None:
    """Set keys of a run's result.json."""
    path = run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def make_runs(folder: Path) -> Path:
    """rfad/seed0..2 and kip/seed0..1 on CIFAR-10 with 2 images per class, one evaluation each."""
    for (method, seed), accuracy in ACCURACIES.items():
        run = make_run(folder / method / f"seed{seed}", "whitened" if method == "rfad" else "plain")
        file = run / "coreset" / "coreset.npz"
        with np.load(file) as data:
            arrays = dict(data)
        np.savez(file, **(arrays | {"images": arrays["images"] * (1 + seed)}))
        row: dict[str, Any] = {
            "protocol": "krr_ntk", "split": "test", "images": 100, "accuracy": accuracy,
            "std": None, "n": 1, "nll": 1.0, "ece": 0.1, "seconds": 3.0,
            "baseline_random": {"accuracy": 0.4 + 0.01 * seed, "std": None, "n": 1},
            "detail": {"calibration": {"bins": BINS}} if method == "rfad" else {},
        }  # fmt: skip
        recorded = json.loads((run / "result.json").read_text())["coreset"]
        sha = hashlib.sha256(file.read_bytes()).hexdigest()
        change(
            run, method=method, seed=seed, digest=f"{method}{seed}", version=__version__,
            config={"method": {"name": method}, "seed": seed, "sampler": {"name": "uniform"}},
            evaluations=[row], command=f"distill method={method} seed={seed} 'a=[b,c]'",
            coreset={**recorded, "sha256": sha}, device="cpu (2 cores)",
        )  # fmt: skip
    return folder
