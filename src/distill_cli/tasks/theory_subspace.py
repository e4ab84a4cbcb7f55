"""task subspace: the directions of any coreset of images, beside those a real network uses."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig, OmegaConf

from distill_cli.config import parse, plain
from distill_cli.core.coreset_io import load_coreset, sha256
from distill_cli.core.files import write_bytes, write_json
from distill_cli.core.lock import locked
from distill_cli.errors import UserError
from distill_cli.report.theory_subspace import picture
from distill_cli.tasks.coreset_fits import Target, ready
from distill_cli.tasks.plan import device_name
from distill_cli.tasks.problem import Problem, load_problem
from distill_cli.tasks.runtime import Stopwatch, configure_jax
from distill_cli.theory import subspace
from distill_cli.theory.study import spread
from distill_cli.theory.subspace import SubspaceConfig
from distill_cli.typed import build
from distill_cli.version import __version__

KINDS = {
    "coreset": "the coreset",
    "real": "as many real images",
    "like_real": "Gaussian images, covariance of the real ones",
    "noise": "Gaussian noise images",
}
MEASURES = ("overlap", "energy", "top_k", "dimension")
Sets = dict[str, list[np.ndarray]]


def run(composed: DictConfig, folder: Path, command: str) -> dict[str, Any]:
    """Measure; `folder`/subspace.json and subspace.png. Returns what the file holds."""
    tree = plain(composed)
    settings = build(SubspaceConfig, tree.pop("subspace"), "subspace.")
    source = tree["coreset"]
    file = load_coreset(source["path"], source["format"], source["index"])
    config = parse(OmegaConf.create(tree))
    config = dataclasses.replace(config, ipc=1)
    configure_jax()
    watch = Stopwatch()
    with locked(folder):
        problem, file = ready(load_problem(config), Target(file, config, bool(source["force"])))
        classes, pixels = problem.dataset.classes, int(np.prod(problem.dataset.image_shape))
        k = settings.k or classes
        if k > min(pixels, settings.width):
            raise UserError(
                f"subspace.k={k}: must be at most {min(pixels, settings.width)}, the smaller of "
                "pixels and subspace.width"
            )
        real, labels, mean = real_images(problem, settings)
        sets = image_sets(np.asarray(file.coreset.images), real, labels, mean, settings)
        networks = [
            measured(settings, classes, seed, k, real, labels, sets)
            for seed in range(settings.seeds)
        ]
        result: dict[str, Any] = {
            "schema": 1, "version": __version__, "command": command, "device": device_name(),
            "dataset": problem.dataset.name, "k": k, "pixels": pixels,
            "coreset": {
                "path": str(file.path), "sha256": sha256(file.path),
                "images": list(file.coreset.images.shape),
            },
            "settings": dataclasses.asdict(settings), "chance": k / pixels,
            "train_accuracy": spread([found["accuracy"] for found in networks]),
            "gradient_top_k": spread([found["gradient_top_k"] for found in networks]),
            "tables": {
                space: {
                    kind: {
                        name: spread([found["tables"][space][kind][name] for found in networks])
                        for name in MEASURES
                    }
                    for kind in KINDS
                }
                for space in ("pixel", "feature")
            },
            "seconds": watch.total(),
        }  # fmt: skip
        write_json(folder / "subspace.json", result)
        shape = problem.dataset.image_shape
        png = picture({kind: sets[kind][0] for kind in KINDS}, networks[0]["directions"], shape, k)
        write_bytes(folder / "subspace.png", png)
    return result


def real_images(
    problem: Problem, settings: SubspaceConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preprocessed training images (n, pixel) less their mean, labels, and the mean."""
    rng = np.random.default_rng(problem.config.seed)
    rows = problem.train_rows
    rows = np.sort(rng.permutation(rows)[: settings.images])
    x = problem.train_subset(rows).reshape(len(rows), -1).astype(np.float32)
    mean = x.mean(0, dtype=np.float64).astype(np.float32)
    return x - mean, np.asarray(problem.dataset.train.labels[rows], np.int32), mean


def image_sets(
    images: np.ndarray, real: np.ndarray, labels: np.ndarray, mean: np.ndarray,
    settings: SubspaceConfig,
) -> Sets:  # fmt: skip
    """Sets of as many images as the coreset has, less the mean of the real ones; random ones
    `draws` times, real ones class by class."""
    x = images.reshape(len(images), -1).astype(np.float32) - mean
    rng = np.random.default_rng(0)
    count, classes = len(x), int(labels.max()) + 1
    sets: Sets = {"coreset": [x], "real": [], "like_real": [], "noise": []}
    for _ in range(settings.draws):
        order = rng.permutation(len(real))
        members = [order[labels[order] == label] for label in range(classes)]
        turns = [m[i] for i in range(max(map(len, members))) for m in members if i < len(m)]
        sets["real"].append(real[np.array(turns[:count])])
        sets["like_real"].append(subspace.like_real(rng, real, count))
        sets["noise"].append(rng.standard_normal(x.shape).astype(np.float32))
    return sets


def measured(
    settings: SubspaceConfig, classes: int, seed: int, k: int, real: np.ndarray,
    labels: np.ndarray, sets: Sets,
) -> dict[str, Any]:  # fmt: skip
    """Train one network on real images and compare every set with its directions."""
    net = subspace.train(settings, classes, seed, jnp.asarray(real), jnp.asarray(labels))
    points = real[: settings.points]
    guesses = np.asarray(subspace.outputs(net, jnp.asarray(points))).argmax(1)
    product = subspace.gradient_outer_product(net, points)
    w2 = np.asarray(net.w2, np.float64)
    directions = subspace.leading(product, k)
    inside = subspace.leading(w2.T @ w2, k)
    centre = np.asarray(subspace.features(net, jnp.asarray(real)), np.float64).mean(0)

    def hidden(x: np.ndarray) -> np.ndarray:
        return np.asarray(subspace.features(net, jnp.asarray(x)), np.float64) - centre

    def table(v: np.ndarray, space: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
        rows = {}
        for kind, found in sets.items():
            values = [subspace.concentration(space(x), v) for x in found]
            rows[kind] = {m: float(np.mean([value[m] for value in values])) for m in MEASURES}
        return rows

    values = np.linalg.eigvalsh(product)
    return {
        "accuracy": float((guesses == labels[: len(points)]).mean()),
        "gradient_top_k": float(values[-k:].sum() / values.sum()),
        "directions": directions,
        "tables": {"pixel": table(directions, lambda x: x), "feature": table(inside, hidden)},
    }


def show(result: dict[str, Any]) -> str:
    """The tables as text."""
    k = result["k"]
    head = (
        f"{result['coreset']['images'][0]} images against the {k} leading gradient directions of "
        f"{result['train_accuracy']['n']} networks (they hold "
        f"{result['gradient_top_k']['mean']:.1%} of the gradient outer product; accuracy on "
        f"training images {result['train_accuracy']['mean']:.1%}); chance k/p = "
        f"{result['chance']:.4f}"
    )
    lines = [head]
    for space, rows in result["tables"].items():
        lines.append(f"  {space + ' space':46s} overlap  energy   top {k}  effective dimension")
        for kind, name in KINDS.items():
            found = [rows[kind][key]["mean"] for key in MEASURES]
            lines.append(
                f"    {name:44s} {found[0]:7.4f} {found[1]:7.4f} {found[2]:7.4f} {found[3]:9.2f}"
            )
    return "\n".join(lines)
