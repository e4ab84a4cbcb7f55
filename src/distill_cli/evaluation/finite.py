"""evaluation=finite: train wide networks on the coreset, test them on real images.

RFAD's protocol; finite_training.py has the loss and the update. Test accuracy is that of the
weights with the best validation accuracy; test images play no part in training or in that choice.
"""

import time
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from distill_cli.arch.layers import Architecture
from distill_cli.arch.network import predict
from distill_cli.core.sharing import Tell, share_out
from distill_cli.core.stats import mean_std
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.by_class import confusion_counts, share_correct
from distill_cli.evaluation.finite_table import FiniteConfig, with_tuned
from distill_cli.evaluation.finite_training import Progress, network_key, train_finite
from distill_cli.evaluation.kept_networks import Tested, kept_networks

Config = FiniteConfig


def evaluate(config: FiniteConfig, coreset: Coreset, problem: Problem) -> Metric:
    """One Metric, protocol finite, on all test images."""
    return evaluate_finite(
        config, problem.architecture, coreset, problem.valid, problem.test, problem.dataset,
        problem.ipc, lambda what, done: problem.report("finite networks", done), problem.partial,
    )  # fmt: skip


def evaluate_finite(
    config: FiniteConfig,
    architecture: Architecture,
    coreset: Coreset,
    valid: tuple[Float[np.ndarray, "v height width channel"], Int[np.ndarray, " v"]],
    test: tuple[Float[np.ndarray, "n height width channel"], Int[np.ndarray, " n"]],
    dataset: str,
    ipc: int,
    progress: Progress | None = None,
    partial: Path | None = None,
) -> Metric:
    """Mean test accuracy of `config.networks` networks trained on the coreset, shared out over
    devices.

    Images of `valid` and `test` are preprocessed as the coreset's are. `architecture` gives the
    kinds of layers; every hidden layer gets config.width. detail holds the values used, the
    published cell they came from, and one entry per network. std (n - 1) is None for one network.
    partial: a folder that keeps finished networks; the same call goes on from them.
    Raises UserError if there is no validation or test image.
    """
    start = time.perf_counter()
    if not len(valid[1]) or not len(test[1]):
        raise UserError("evaluation.finite: needs at least one validation and one test image")
    channels = int(coreset.images.shape[-1])
    config, cell = with_tuned(config, dataset, ipc, channels)
    valid_images, valid_labels = _limited(*valid, config.valid_limit)
    coreset = Coreset(*map(np.asarray, coreset))  # each device takes its own copy from the host

    def one(index: int, tell: Tell) -> Tested:
        def report(message: str, fraction: float) -> None:
            tell(fraction, f"network {index + 1}/{config.networks}: {message}")

        key = network_key(config.seed, index)
        run = train_finite(config, architecture, coreset, valid_images, valid_labels, key, report)
        report("testing", run.steps / config.max_steps)
        outputs = predict(run.network, run.params, test[0])
        if config.centred:
            outputs = outputs - predict(run.network, run.initial, test[0])
        guesses = outputs.argmax(-1)
        accuracy = share_correct(guesses, test[1])
        report(f"test accuracy {100 * accuracy:.2f} %", 1.0)
        facts = {
            "accuracy": accuracy,
            "valid_accuracy": float(run.best_accuracy),
            "best_step": int(run.best_step),
            "steps": int(run.steps),
            "warning": run.warning,
        }
        return Tested(guesses, facts)

    work = kept_networks(
        one, partial, "finite", config, architecture, *coreset, valid_images, valid_labels, *test
    )
    found = share_out(work, config.networks, progress or (lambda message, fraction: None))
    runs = [run.facts for run in found]
    classes = int(coreset.labels.shape[1])
    over_networks = mean_std(run["accuracy"] for run in runs)
    keys = ("width", "learning_rate", "label_scale", "weight_decay", "centred", "loss", "seed")
    return Metric(
        protocol="finite",
        accuracy=over_networks.mean,
        std=over_networks.std,
        n=config.networks,
        images=len(test[1]),
        seconds=time.perf_counter() - start,
        confusion=confusion_counts([run.guesses for run in found], test[1], classes),
        detail={
            **{key: getattr(config, key) for key in keys},
            "published_cell": cell,
            "valid_images": len(valid_labels),
            "networks": runs,
            "warnings": [run["warning"] for run in runs if run["warning"]],
        },
    )


def _limited(
    images: np.ndarray, labels: np.ndarray, limit: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` images, evenly spaced over the images sorted by class."""
    if limit is None or limit >= len(labels):
        return images, labels
    by_class = np.argsort(labels, kind="stable")
    rows = np.sort(by_class[np.linspace(0, len(labels) - 1, limit).round().astype(int)])
    return images[rows], labels[rows]
