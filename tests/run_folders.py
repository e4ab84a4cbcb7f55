"""Run folders as finished runs and sweeps leave them, small, for tests that read them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.version import __version__

CLASSES = ("ant", "bee", "wasp & <fly>")
COMMAND = 'distill method=rfad dataset=cifar10 ipc=2 "evaluation=[krr_nngp,krr_ntk]"'
KINDS = ("plain", "whitened", "per_image", "grey")


def transform(kind: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Arrays of preprocess.npz. The covariance has eigenvalues from 0.01 to 100."""
    rng = np.random.default_rng(3)
    channels = shape[-1]
    arrays: dict[str, Any] = {
        "mean": rng.uniform(0.3, 0.6, channels).astype(np.float32),
        "std": rng.uniform(0.2, 0.3, channels).astype(np.float32),
        "pixel_max": np.float64(16.0 if kind == "grey" else 255.0),
        "per_image": np.bool_(kind == "per_image"),
    }
    if kind in ("whitened", "per_image"):
        d = int(np.prod(shape))
        arrays["zca_vectors"] = np.linalg.qr(rng.normal(size=(d, d)))[0].astype(np.float32)
        arrays["zca_values"] = np.geomspace(0.01, 100, d)
    return arrays


def make_run(folder: Path, kind: str = "whitened", ipc: int = 2, learned: bool = False) -> Path:
    """A run folder of 3 classes with coreset, initial images, metrics and result.json."""
    rng = np.random.default_rng(5)
    classes, shape = len(CLASSES), (8, 8, 1) if kind == "grey" else (6, 5, 3)
    n = classes * ipc
    (folder / "coreset").mkdir(parents=True)
    labels = (np.eye(classes)[np.repeat(np.arange(classes), ipc)] - 1 / classes).astype(np.float32)
    if learned:
        labels += 0.1 * rng.normal(size=labels.shape).astype(np.float32)
    images = rng.normal(size=(n, *shape)).astype(np.float32)
    arrays = {
        "labels": labels,
        "log_temperature": np.float32(1.5),
        "class_names": np.array(CLASSES),
    }
    np.savez(folder / "coreset" / "coreset.npz", images=images, **arrays)
    np.savez(folder / "coreset" / "initial.npz", images=0.1 * images, **arrays)
    np.savez(folder / "coreset" / "preprocess.npz", **transform(kind, shape))
    sha = hashlib.sha256((folder / "coreset" / "coreset.npz").read_bytes()).hexdigest()
    (folder / "result.json").write_text(json.dumps(result(ipc, learned, sha, images.shape)))
    lines = [
        {"step": s, "loss": 1.0 / (1 + s), "valid_loss": 1.2 / (1 + s), "valid_accuracy": s / 1000}
        for s in range(0, 401, 40)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def result(ipc: int, learned: bool, sha: str, shape: tuple[int, ...]) -> dict[str, Any]:
    common = {"split": "test", "images": 10000, "std": None, "n": 1, "nll": 1.1, "ece": 0.02}
    return {
        "schema": 1, "version": "0.1.0", "digest": "5e0c81d2a4b39f77", "command": COMMAND,
        "method": "rfad", "dataset": "cifar10", "ipc": ipc, "seed": 0,
        "steps": 400, "best_step": 200,
        "labels": "learned" if learned else "fixed", "init": "random", "loss": "platt",
        "stop_reason": "step limit", "class_names": list(CLASSES), "device": "cpu",
        "config": {"method": {"name": "rfad", "networks": 8}, "tags": ["a", "b"]},
        "seconds": {"data": 1.0, "distill": 3725.0, "evaluate": 2.0, "total": 3728.0},
        "peak_memory_mb": {"host": 512.0, "device": None},
        "coreset": {"path": "coreset/coreset.npz", "sha256": sha, "images": list(shape),
                    "stored_floats": 559},
        "evaluations": [
            {"protocol": "krr_nngp", "accuracy": 0.7312, "seconds": 4.0, **common,
             "baseline_random": {"accuracy": 0.4, "std": 0.01, "n": 5}, "detail": {"reg": 0.005}},
            {"protocol": "krr_ntk", "accuracy": 0.6821, "seconds": 5.0, **common},
        ],
    }  # fmt: skip


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
