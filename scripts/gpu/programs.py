"""What is compiled, by name: the hot programs of a user's run, at published sizes.

A builder goes the way of a run (configuration, method, sampler, loop; evaluation protocols), with
shapes in place of arrays, and hands back the lowered program. Where a protocol makes its arrays by
itself it is run until it calls its jitted function, whose arguments are kept (`captured`).
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from gpu.target import Target

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
class Program:
    """A program by name; build: lower it for a target; devices: counts that make sense; fields of
    `make` are bound by the catalogue."""

    name: str
    build: Callable[[Target], Built]
    devices: tuple[int, ...] = (1,)


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


def chunk(*overrides: str, sizes: Sizes = CIFAR10, target: Target) -> Built:
    """The jitted chunk of steps of a distillation, with its sampler."""
    import jax

    from distill_cli.core.keys import named_key
    from distill_cli.methods.base import make_distiller
    from distill_cli.train import loop
    from distill_cli.train.samplers.base import make_sampler

    config = configuration(*overrides)
    problem = problem_of(config, sizes)
    distiller = make_distiller(problem.setting)
    sampler = make_sampler(config, distiller)
    coreset, train = coreset_shapes(config, sizes), train_shapes(problem)
    state = jax.eval_shape(distiller.init, named_key(config.seed, "method"), coreset)
    sampling = jax.eval_shape(sampler.init, train)
    batch = min(config.batch.size, sizes.images) * config.batch.number
    flops = distiller.flops(batch, len(coreset.labels))
    every = math.gcd(config.validation.every, sampler.refresh)
    length = loop.chunk_length(every, flops, jax.default_backend())
    made = loop.make_chunk(distiller, sampler, config)
    arguments = target.abstract((state, sampling, train, np.uint32(0)))
    lowered = made.trace(*arguments, length=length).lower()
    return Built(lowered, words(config, sizes, problem.micro), steps=length)


def words(config: Any, sizes: Sizes, micro: int) -> str:
    """The sizes of a distillation."""
    height, width, channels = sizes.shape
    return (
        f"{config.method.name}, {sizes.images:,} images of {height}x{width}x{channels} in "
        f"{sizes.classes} classes, ipc {config.ipc} ({config.ipc * sizes.classes:,} images), "
        f"labels {config.labels}, batch {config.batch.number} x {config.batch.size}, micro {micro}"
    )


def validation(*overrides: str, sizes: Sizes = CIFAR10, images: int, target: Target) -> Built:
    """A method's validator: features of the validation images, and the score of one coreset."""
    import jax

    from distill_cli.core.keys import named_key
    from distill_cli.methods.base import make_distiller

    config = configuration(*overrides)
    problem = problem_of(config, sizes)
    distiller = make_distiller(problem.setting)
    shapes = (
        named_key(config.seed, "validation"),
        jax.ShapeDtypeStruct((images, *sizes.shape), np.float32),
        jax.ShapeDtypeStruct((images,), np.int32),
        coreset_shapes(config, sizes),
    )

    def score(key: Any, images: Any, labels: Any, coreset: Any) -> Any:
        return distiller.validator(key, images, labels)(coreset)

    lowered = jax.jit(score).trace(*target.abstract(shapes)).lower()
    what = words(config, sizes, problem.micro)
    what += f"; {images:,} validation images, {config.validation.networks} networks"
    return Built(lowered, what, step="features of all validation images and one score")


def draw(*overrides: str, sizes: Sizes = CIFAR10, target: Target) -> Built:
    """The sampler's draw of one batch."""
    import jax

    from distill_cli.core.keys import named_key
    from distill_cli.methods.base import make_distiller
    from distill_cli.train.samplers.base import make_sampler

    config = configuration(*overrides)
    problem = problem_of(config, sizes)
    sampler = make_sampler(config, make_distiller(problem.setting))
    train = train_shapes(problem)
    sampling = jax.eval_shape(sampler.init, train)
    arguments = target.abstract((sampling, train, (), named_key(config.seed, "batch")))
    lowered = jax.jit(sampler.draw).trace(*arguments).lower()
    what = f"sampler {config.sampler.name}, {config.batch.number} draws of {config.batch.size} "
    return Built(lowered, what + f"from {sizes.images:,} images", step="draw")


class Captured(Exception):
    """The arguments of a call that was not made."""


def captured(owner: Any, name: str, run: Callable[[], Any]) -> tuple[Any, ...]:
    """(function, its arguments) of the first call of owner.name while `run` runs."""
    function = getattr(owner, name)

    def instead(*arguments: Any) -> Any:
        raise Captured(arguments)

    setattr(owner, name, instead)
    try:
        run()
    except Captured as call:
        return function, call.args[0]
    finally:
        setattr(owner, name, function)
    raise RuntimeError(f"{owner.__name__}.{name} was not called")


def evaluation(protocol: str, points: int, *overrides: str) -> tuple[Callable[[], Any], Any]:
    """(a call of a protocol on a coreset of zeros, its settings) on CIFAR-10's shapes."""
    from distill_cli.core.types import Coreset
    from distill_cli.evaluation.base import Problem, evaluate

    config = configuration(
        "dataset=cifar10", f"ipc={points // 10}", f"evaluation=[{protocol}]", *overrides
    )
    settings = config.evaluation.protocols[protocol]
    arch = problem_of(config, CIFAR10).architecture
    labels = np.arange(10, dtype=np.int32)
    images = np.zeros((10, *CIFAR10.shape), np.float32)
    coreset = Coreset(
        np.zeros((points, *CIFAR10.shape), np.float32), np.eye(10, dtype=np.float32).repeat(
            points // 10, axis=0
        ), np.zeros(()),
    )  # fmt: skip
    held = (images, labels)
    problem = Problem(arch, "cifar10", points // 10, held, held, config.method.ridge, 0)
    return lambda: evaluate(protocol, settings, coreset, problem), settings


def finite(target: Target) -> Built:
    """Steps of the finite protocol at width 1024. Without centring, which changes numbers only
    and would run 100 images through the wide network on this machine."""
    from distill_cli.evaluation import finite_training

    run, settings = evaluation("finite", 100, "evaluation.finite.centred=false")
    function, arguments = captured(finite_training, "_run", run)
    lowered = function.trace(*target.abstract(arguments)).lower()
    length = arguments[6]
    return Built(lowered, f"finite, 100 images of 32x32x3, width {settings.width}", steps=length)


def protocol_step(protocol: str, points: int, target: Target) -> Built:
    """One training step of a protocol of evaluation/trainer.py, networks side by side."""
    from distill_cli.evaluation import trainer

    run, settings = evaluation(protocol, points)
    function, arguments = captured(trainer, "_run", run)
    lowered = function.trace(*target.abstract(arguments)).lower()
    networks = len(arguments[4])
    what = f"{protocol}, {points} images of 32x32x3, {networks} networks at once, width "
    return Built(lowered, f"{what}{settings.width}, batch {settings.batch}")


def exact_tile(n1: int, n2: int, whole: bool, target: Target) -> Built:
    """A tile of the exact kernels of evaluation=[krr_nngp,krr_ntk]: K of n1 x n2 images, from
    which one tile, or all of them (whole), are counted."""
    import jax

    from distill_cli.kernels.exact import gram, tiles

    config = configuration("dataset=cifar10", "evaluation=[krr_nngp,krr_ntk]")
    arch = problem_of(config, CIFAR10).architecture
    x1, x2 = (np.zeros((n, *CIFAR10.shape), np.float32) for n in (n1, n2))
    self_kernels = tiles.self_kernels

    @cache
    def zeros(arch: Any, shape: tuple[int, ...]) -> Any:
        x = jax.ShapeDtypeStruct(shape, np.float32)
        found = jax.eval_shape(partial(tiles._self_kernels, arch, ()), x)
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), found)

    tiles.self_kernels = lambda arch, x: zeros(arch, x.shape)
    memory_mb = config.evaluation.memory_mb
    try:
        call = partial(gram, arch, x1, x2, get=("nngp", "ntk"), memory_mb=memory_mb)
        _, arguments = captured(tiles, "tile", call)
    finally:
        tiles.self_kernels = self_kernels
    arch, get, count, *operands = arguments
    rows, columns = len(operands[0]), len(operands[2])
    function = tiles._compiled()[1]
    lowered = function.trace(arch, get, *target.abstract((np.int32(count), *operands))).lower()
    runs = math.ceil(n1 / rows) * math.ceil(n2 / columns) if whole else 1
    step = f"{n1} x {n2:,} pairs" if whole else f"tile of {rows} x {columns} pairs"
    what = f"NNGP and NTK of 32x32x3 images, ConvNet of depth 3, tiles of {rows} x {columns}"
    return Built(lowered, what, step=step, runs=runs, unknown_trips=rows)


def of(build: Callable[..., Built], *arguments: Any, **named: Any) -> Callable[[Target], Built]:
    """A builder with all but its target bound."""
    return lambda target: build(*arguments, **named, target=target)


def distillation(name: str, *overrides: str, sizes: Sizes = CIFAR10, many: bool = False) -> Program:
    """The chunk of a configuration; many: on eight devices too."""
    devices = (1, 8) if many else (1,)
    return Program(name, of(chunk, *overrides, sizes=sizes), devices)


def catalogue() -> dict[str, Program]:
    """All programs by name. A variant is a line: a name, the overrides, the sizes."""
    rfad = ("method=rfad", "dataset=cifar10")
    large = ("method=rfad", "dataset=tiny_imagenet10", "ipc=10")
    kip = ("method=kip", "dataset=cifar10", "ipc=10")
    programs = [
        *(distillation(f"rfad_cifar10_ipc{n}", *rfad, f"ipc={n}", many=True) for n in (1, 10, 50)),
        distillation("rfad_cifar10_ipc50_learned", *rfad, "ipc=50", "labels=learned", many=True),
        distillation(
            "rfad_cifar100_ipc50", "method=rfad", "dataset=cifar100", "ipc=50", sizes=CIFAR100,
            many=True,
        ),
        distillation("rfad_tiny_imagenet10_ipc10", *large, sizes=TINY, many=True),
        distillation(
            "rfad_imagenet64_ipc10", *large, "method.transform=false", sizes=IMAGENET64, many=True
        ),
        Program("rfad_validation", of(validation, *rfad, "ipc=10", images=5_000), (1, 8)),
        distillation("frepo_cifar10_ipc10", "method=frepo", "dataset=cifar10", "ipc=10"),
        distillation("dc_cifar10_ipc10", "method=dc", "dataset=cifar10", "ipc=10"),
        distillation("dm_cifar10_ipc10", "method=dm", "dataset=cifar10", "ipc=10"),
        distillation("kip_cifar10_ipc10", *kip, many=True),
        distillation("kip_cifar10_ipc10_batch64", *kip, "batch.size=64", many=True),
        Program("finite_width1024", finite),
        Program("dsa_evaluation", of(protocol_step, "dsa", 100)),
        Program("exact_tile", of(exact_tile, 500, 10_000, False)),
        Program("exact_500x10000", of(exact_tile, 500, 10_000, True)),
        Program("sampler_draw", of(draw, *rfad, "ipc=10")),
    ]  # fmt: skip
    return {program.name: program for program in programs}
