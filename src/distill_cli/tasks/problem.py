"""From a configuration to everything a run works on: arrays, preprocessing, architecture."""

import dataclasses
import hashlib
import importlib
import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill_cli.arch.layers import Architecture, feature_shape
from distill_cli.config import Config
from distill_cli.core.types import Dataset, Split, one_hot_centred
from distill_cli.data.corrupt import corrupt
from distill_cli.data.preprocess import Preprocess, fit_dataset
from distill_cli.data.repeats import repeated_images
from distill_cli.data.sources import load_dataset
from distill_cli.data.validation import official_validation_indices, validation_indices
from distill_cli.errors import UserError
from distill_cli.init.base import Request
from distill_cli.init.features import FeatureConfig, Features
from distill_cli.init.leverage import leverage
from distill_cli.kernels.micro_batches import micro_of_device
from distill_cli.methods.base import Setting
from distill_cli.train.batches import fits_resident

log = logging.getLogger(__name__)
ONE_BY_ONE = ("dc", "dsa", "dm")  # methods that go through the classes, each with its images


@dataclass(frozen=True)
class Problem:
    """A loaded dataset with its fitted preprocessing and the network description.

    train_rows: rows of the training split that batches and initial images come from; valid_rows:
    rows of `valid_source` that choose the best step; pruned_from: train_rows before prune.keep left
    some out, None where it did not.
    """

    config: Config
    dataset: Dataset
    preprocess: Preprocess
    architecture: Architecture
    train_rows: np.ndarray
    valid_rows: np.ndarray
    pruned_from: np.ndarray | None = None

    @property
    def unpruned(self) -> "Problem":
        """The problem with all of its training rows: what baselines are drawn from."""
        return self if self.pruned_from is None else self.on_rows(self.pruned_from, None)

    def on_rows(self, rows: np.ndarray, pruned_from: np.ndarray | None) -> "Problem":
        """The problem with other training rows; the preprocessed split is not made again."""
        other = dataclasses.replace(self, train_rows=rows, pruned_from=pruned_from)
        other.__dict__["train_images"] = self.train_images
        return other

    def sized(self, config: Config) -> "Problem":
        """The problem with another part's sizes (train/growth.py)."""
        return dataclasses.replace(self, config=config, architecture=built_architecture(config))

    @cached_property
    def train_images(self) -> np.ndarray | None:
        """The whole training split preprocessed, or None where it is too large to keep."""
        raw = self.dataset.train.images
        return self.preprocess.apply_numpy_chunks(raw) if fits_resident(raw) else None

    def train_subset(self, rows: np.ndarray) -> np.ndarray:
        """Preprocessed training images of these rows, (n, h, w, c) float32."""
        if self.train_images is not None:
            return self.train_images[rows]
        return self.preprocess.apply_numpy_chunks(self.dataset.train.images[rows])

    @cached_property
    def valid(self) -> tuple[np.ndarray, np.ndarray]:
        """(images, labels) that choose the best step; never test data."""
        if self.dataset.valid is not None:
            official = self.dataset.valid
            images = self.preprocess.apply_numpy_chunks(official.images[self.valid_rows])
            return images, official.labels[self.valid_rows]
        return self.train_subset(self.valid_rows), self.dataset.train.labels[self.valid_rows]

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """(images, labels) of the test split, preprocessed. Only evaluators read it."""
        split = self.dataset.test
        return self.preprocess.apply_numpy_chunks(split.images), split.labels

    @cached_property
    def also_tested(self) -> int:
        """How many test images are training images too."""
        return repeated_images(self.dataset, self.config.dataset.cache)

    @property
    def micro(self) -> int:
        """Images whose activations are in memory at once: batch.micro, or what fits the device."""
        if self.config.batch.micro is not None:
            return self.config.batch.micro
        return micro_of_device(self.architecture, self.dataset.image_shape)

    @property
    def setting(self) -> Setting:
        """What the method is told."""
        return Setting(
            config=self.config,
            architecture=self.architecture,
            image_shape=self.dataset.image_shape,
            classes=self.dataset.classes,
            micro=self.micro,
            whitened=self.preprocess.zca_values is not None,
        )


def built_architecture(config: Config) -> Architecture:
    """The network description of a configuration."""
    module = importlib.import_module(f"distill_cli.arch.{config.architecture.name}")
    return module.build(config.architecture)


def load_problem(config: Config) -> Problem:
    """Load, check, fit the preprocessing (cached), draw the validation rows.

    Raises UserError for what the data do not allow: too few images of a class for ipc, poolings
    that leave nothing of an image.
    """
    architecture = built_architecture(config)
    dataset = corrupted(config, load_dataset(config.dataset))
    try:
        feature_shape(architecture, dataset.image_shape)
    except ValueError as error:
        raise UserError(
            f"architecture.depth={getattr(config.architecture, 'depth', '?')}: {error}"
        ) from error
    present, labels = np.unique(dataset.train.labels, return_inverse=True)
    if len(present) < dataset.classes and config.method.name in ONE_BY_ONE:
        raise UserError(
            f"dataset.classes={present.tolist()}: method={config.method.name} takes classes one by "
            "one; add dataset.relabel=true"
        )
    train_rows = np.arange(len(labels))
    if dataset.valid is not None:
        valid_rows = official_validation_indices(len(dataset.valid.labels), config.seed)
    else:
        settings = config.validation
        train_rows, valid_rows = validation_indices(
            labels, len(present), settings.per_class, config.seed, settings.disjoint
        )
    counts = np.bincount(labels[train_rows], minlength=len(present))
    smallest = int(counts.argmin())
    if config.ipc > counts[smallest]:
        raise UserError(
            f"ipc={config.ipc}: class {dataset.class_names[present[smallest]]} of {dataset.name} "
            f"has only {counts[smallest]} training images; ipc must be at most that"
        )
    preprocess = fit_dataset(config.preprocess, dataset, config.dataset.cache)
    problem = Problem(config, dataset, preprocess, architecture, train_rows, valid_rows)
    if problem.also_tested:
        log.warning(
            "dataset=%s: %d of %d test images are training images too; its test accuracy says "
            "little about new images", dataset.name, problem.also_tested, len(dataset.test.labels),
        )  # fmt: skip
    return pruned(problem)


def corrupted(config: Config, dataset: Dataset) -> Dataset:
    """The dataset with its training split corrupted as dataset.corrupt says, and a fingerprint of
    its own."""
    images, labels = corrupt(config.dataset, *dataset.train)
    if config.dataset.corrupt == "none":
        return dataset
    how = {k: v for k, v in vars(config.dataset).items() if k.startswith("corrupt")}
    text = f"{dataset.fingerprint} {sorted(how.items())}"
    fingerprint = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return dataclasses.replace(dataset, train=Split(images, labels), fingerprint=fingerprint)


def pruned(problem: Problem) -> Problem:
    """The problem without the training images that prune.keep leaves out, class by class.

    The loss of an image is |Y_i - f_-i(x_i)|^2 under ridge regression on all other training images
    in random features (init/leverage.py). Of each class round(ratio * n_c) images stay, at least
    ipc. Validation and test images stay as they are.
    """
    config, prune = problem.config, problem.config.prune
    if prune.keep == "none":
        return problem
    from distill_cli.tasks.measure import LazyRows  # it imports this module

    rows, classes = problem.train_rows, problem.dataset.classes
    labels = problem.dataset.train.labels[rows]
    resident = problem.train_images
    images = LazyRows(problem) if resident is None else resident[rows]
    request = Request(
        images, labels, config.ipc, classes, config.seed, problem.architecture, problem.micro  # type: ignore[arg-type]
    )  # fmt: skip
    features = Features(FeatureConfig(networks=prune.networks), request, "prune")
    targets = np.asarray(one_hot_centred(labels, classes), np.float64)
    losses = leverage(features, targets, lam=prune.lam).left_out
    ratio = 0.5 if prune.ratio is None else prune.ratio
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(len(members), max(config.ipc, round(ratio * len(members))))
        order = np.argsort(losses[members], kind="stable")
        kept.append(members[order[:count] if prune.keep == "smallest" else order[-count:]])
    stay = np.sort(np.concatenate(kept))
    log.info("prune.keep=%s: %d of %d training images stay", prune.keep, len(stay), len(rows))
    return problem.on_rows(rows[stay], rows)
