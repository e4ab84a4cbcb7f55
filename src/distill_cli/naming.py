"""What a result folder is called, and the functions that YAML files may use for it.

Imports no jax.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config import NO_STEPS, plain

# Keys that cannot change the distilled coreset: where things lie, what is shown, what is measured.
NOT_IN_DIGEST = (
    "hydra", "out", "evaluation", "hardware", "progress", "devices", "checkpoint", "coreset",
    "logger", "tuning", "search", "rerun",
)  # fmt: skip
DATASET_NOT_IN_DIGEST = ("data_dir", "cache", "download", "limit_test")
# Values that add nothing to what a run was before their keys existed, or are chosen where it runs.
NOTHING = {
    "kernel": (("features", "auto"), ("fused", "auto")),
    "method": (("networks", 1), ("jackknife", 0.0)),
}
PLAIN_FOLDER = (("background", (255, 255, 255)), ("skip_unreadable", False))
PLAIN_SAMPLER = {"name": "uniform", "balanced": False}


def digest(tree: dict[str, Any]) -> str:
    """Eight hex digits over everything that decides the distilled coreset.

    Paths of prepared data, devices, evaluation and display do not count; the user's own data path
    does, and the content of a coreset that a run begins from. What is switched off (plain uniform
    sampling, constant rates, no average, no pruning, no corruption) does not count either, so that
    a run keeps its folder when such an option is added.
    """
    kept = {key: value for key, value in tree.items() if key not in NOT_IN_DIGEST}
    if isinstance(method := kept.get("method"), dict) and method.get("name") in NO_STEPS:
        kept["steps"] = 0
    if kept.get("sampler") == PLAIN_SAMPLER:
        del kept["sampler"]
    for group, values in NOTHING.items():
        if isinstance(kept.get(group), dict):
            kept[group] = {k: v for k, v in kept[group].items() if (k, v) not in values}
    if kept.get("schedule") == "constant":
        kept = {k: v for k, v in kept.items() if not k.startswith("schedule")}
    if kept.get("average") == "none":
        kept = {k: v for k, v in kept.items() if not k.startswith("average")}
    if isinstance(growth := kept.get("growth"), dict) and not growth.get("shares"):
        del kept["growth"]
    if not kept.get("snapshots"):
        kept.pop("snapshots", None)
    if isinstance(prune := kept.get("prune"), dict) and prune.get("keep") == "none":
        del kept["prune"]
    if isinstance(kept.get("dataset"), dict):
        dataset = {k: v for k, v in kept["dataset"].items() if k not in DATASET_NOT_IN_DIGEST}
        if dataset.get("corrupt", "none") == "none":
            dataset = {k: v for k, v in dataset.items() if not k.startswith("corrupt")}
        if dataset.get("classes") is None:
            dataset = {k: v for k, v in dataset.items() if k not in ("classes", "relabel")}
        if dataset.get("rows") is None:
            dataset.pop("rows", None)
        for key, value in PLAIN_FOLDER:
            found = dataset.get(key, value)
            if (tuple(found) if isinstance(found, list) else found) == value:
                dataset.pop(key, None)
        if dataset.get("path"):
            dataset["path"] = str(Path(dataset["path"]).expanduser().resolve())
        kept["dataset"] = dataset
    if isinstance(init := kept.get("init"), dict) and init.get("name") == "coreset":
        kept["init"] = init | {"path": content(str(init.get("path")))}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def content(path: str) -> str:
    """A digest of a coreset that a path stands for (that of a run folder, a file, or all files of a
    folder); the path itself where nothing is there."""
    place = Path(path).expanduser()
    inside = (place / "coreset" / "coreset.npz", place / "coreset.npz")
    place = next((file for file in inside if file.is_file()), place)
    found = hashlib.sha256()
    try:
        files = sorted(file for file in place.rglob("*") if file.is_file())
        for file in files if place.is_dir() else [place]:
            found.update(f"{file.relative_to(place).as_posix()} {file.stat().st_size}\0".encode())
            found.update(file.read_bytes())
    except OSError:
        return path
    return found.hexdigest()


def by_ipc(ipc: int, table: Any) -> Any:
    """The table's value at this ipc, or at the nearest tabulated ipc (ratio-wise; ties go down)."""
    entries = {int(key): value for key, value in dict(table).items()}
    return entries[min(entries, key=lambda at: (max(at / max(ipc, 1), max(ipc, 1) / at), at))]


def register_resolvers() -> None:
    """Make ${by_ipc:${ipc},{1: a, 10: b}}, ${is_given:${key}}, ${or_here:${folder}}, ${run_digest:}
    and ${coreset_label:path} available in YAML files."""
    OmegaConf.register_new_resolver("or_here", lambda folder: folder or ".", replace=True)
    OmegaConf.register_new_resolver("by_ipc", by_ipc, replace=True)
    OmegaConf.register_new_resolver(
        "run_digest", lambda *, _root_: digest(plain(_root_)), replace=True
    )
    OmegaConf.register_new_resolver("is_given", lambda value: value is not None, replace=True)
    OmegaConf.register_new_resolver("coreset_label", coreset_label, replace=True)


def coreset_label(path: str) -> str:
    """A folder name for evaluations of a coreset: its last path part and a digest of the path."""
    resolved = Path(path).expanduser().resolve()
    return f"{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
