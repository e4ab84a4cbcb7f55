"""What programs are built from: configurations, problems without data, arrays as shapes."""

import importlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

IMAGENET_TRAIN = 1_281_167


class Built(NamedTuple):
    """A lowered program.

    step: what the figures are counted per; steps: of them in one run of the program; runs: of the
    program in one step; unknown_trips: trips of loops whose bounds are arguments; what: the sizes,
    in words.
    """

    lowered: Any
    what: str
    step: str = "step"
    steps: int = 1
    runs: float = 1.0
    unknown_trips: int = 1


@dataclass(frozen=True)
class Sizes:
    """The data that a configuration meets: training images, their shape, classes."""

    images: int = 50_000
    shape: tuple[int, int, int] = (32, 32, 3)
    classes: int = 10


CIFAR10, CIFAR100 = Sizes(), Sizes(classes=100)
TINY = Sizes(5_000, (64, 64, 3))
IMAGENET64 = Sizes(IMAGENET_TRAIN, (64, 64, 3), 1_000)


def configuration(*overrides: str) -> Any:
    """The typed configuration of these overrides, as the command composes it."""
    from hydra import compose, initialize_config_dir

    from distill_cli.config import config_dir, parse
    from distill_cli.naming import register_resolvers

    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return parse(compose("config", overrides=list(overrides)))


def problem_of(config: Any, sizes: Sizes) -> Any:
    """A tasks.problem.Problem whose images take no memory."""
    from distill_cli.core.types import Dataset, Split
    from distill_cli.data.preprocess import Preprocess
    from distill_cli.tasks.problem import Problem

    architecture = importlib.import_module(f"distill_cli.arch.{config.architecture.name}")
    labels = (np.arange(sizes.images) % sizes.classes).astype(np.int32)
    raw = np.broadcast_to(np.uint8(0), (sizes.images, *sizes.shape))
    names = tuple(map(str, range(sizes.classes)))
    split = Split(raw, labels)
    dataset = Dataset(config.dataset.name, split, split, names, 255, "shapes only")
    zca = np.ones(1) if config.dataset.zca else None
    channels = sizes.shape[-1]
    preprocess = Preprocess(255.0, np.zeros(channels), np.ones(channels), zca_values=zca)
    rows = np.arange(sizes.images)
    built = architecture.build(config.architecture)
    return Problem(config, dataset, preprocess, built, rows, rows)


def train_shapes(problem: Any) -> Any:
    """The training set on the device as train.batches.training_set makes it, in shapes."""
    import jax

    from distill_cli.data.preprocess import PreprocessArrays
    from distill_cli.train.batches import TrainingSet, class_table, fits_resident

    raw, labels = problem.dataset.train
    by_class = class_table(labels)
    shape = jax.ShapeDtypeStruct
    if fits_resident(raw):
        return TrainingSet(shape(raw.shape, np.float32), labels, None, by_class)
    channels, pixels = raw.shape[-1], math.prod(raw.shape[1:])
    whiten = shape((pixels, pixels), np.float32) if problem.setting.whitened else None
    numbers = [shape(s, np.float32) for s in ((), (channels,), (channels,))]
    transform = PreprocessArrays(*numbers, shape((), np.bool_), whiten)
    return TrainingSet(shape(raw.shape, np.uint8), labels, transform, by_class)


def coreset_shapes(config: Any, sizes: Sizes) -> Any:
    """A start of ipc images per class, in shapes."""
    import jax

    from distill_cli.core.types import Coreset

    points = config.ipc * sizes.classes
    shapes = ((points, *sizes.shape), (points, sizes.classes), ())
    return Coreset(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))
