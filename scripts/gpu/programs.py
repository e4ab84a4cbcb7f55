"""What is compiled, by name: the hot programs of a user's run, at published sizes.

A builder goes the way of a run (configuration, method, sampler, loop; protocols.py for evaluation),
with shapes in place of arrays, and hands back the lowered program.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu.inputs import (
    CIFAR10,
    CIFAR100,
    IMAGENET64,
    TINY,
    Built,
    Sizes,
    configuration,
    coreset_shapes,
    problem_of,
    train_shapes,
)
from gpu.protocols import exact_tile, finite, protocol_step
from gpu.target import Target


@dataclass(frozen=True)
class Program:
    """A program by name; build: lower it for a target; devices: counts that make sense; fields of
    `make` are bound by the catalogue."""

    name: str
    build: Callable[[Target], Built]
    devices: tuple[int, ...] = (1,)


def chunk(*overrides: str, sizes: Sizes = CIFAR10, target: Target) -> Built:
    """The jitted chunk of steps of a distillation, with its sampler."""
    import jax

    from distill_cli.core.keys import named_key
    from distill_cli.methods.base import make_distiller
    from distill_cli.train.chunks import chunk_length, make_chunk
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
    length = chunk_length(every, flops, jax.default_backend())
    made = make_chunk(distiller, sampler, config)
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
    frepo = ("method=frepo", "dataset=cifar10", "ipc=10")
    kip = ("method=kip", "dataset=cifar10", "ipc=10")
    programs = [
        *(distillation(f"rfad_cifar10_ipc{n}", *rfad, f"ipc={n}", many=True) for n in (1, 10, 50)),
        distillation("rfad_cifar10_ipc10_unfused", *rfad, "ipc=10", "kernel.fused=false"),
        distillation(
            "rfad_cifar10_ipc10_float32", *rfad, "ipc=10", "kernel.features=float32",
            "kernel.fused=false",
        ),
        distillation(
            "rfad_cifar10_ipc10_bfloat16", *rfad, "ipc=10", "kernel.features=bfloat16", many=True
        ),
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
        distillation("frepo_cifar10_ipc10", *frepo, many=True),
        distillation("frepo_cifar10_ipc10_networks8", *frepo, "method.networks=8", many=True),
        distillation("dc_cifar10_ipc10", "method=dc", "dataset=cifar10", "ipc=10", many=True),
        distillation("dm_cifar10_ipc10", "method=dm", "dataset=cifar10", "ipc=10", many=True),
        distillation("kip_cifar10_ipc10", *kip, many=True),
        distillation("kip_cifar10_ipc10_batch64", *kip, "batch.size=64", many=True),
        Program("finite_width1024", finite),
        Program("dsa_evaluation", of(protocol_step, "dsa", 100)),
        Program("exact_tile", of(exact_tile, 500, 10_000, False)),
        Program("exact_500x10000", of(exact_tile, 500, 10_000, True)),
        Program("sampler_draw", of(draw, *rfad, "ipc=10")),
    ]  # fmt: skip
    return {program.name: program for program in programs}
