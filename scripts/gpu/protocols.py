"""Evaluation protocols lowered. They make their arrays by themselves, so each is run until it calls
its jitted function, whose arguments are kept (`captured`)."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from gpu.inputs import CIFAR10, Built, configuration, problem_of
from gpu.target import Target


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
    """One training step of one network of a protocol of evaluation/trainer.py."""
    from distill_cli.evaluation import trainer

    run, settings = evaluation(protocol, points)
    function, arguments = captured(trainer, "_run", run)
    lowered = function.trace(*target.abstract(arguments)).lower()
    what = f"{protocol}, {points} images of 32x32x3, one network, width "
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
        found = jax.eval_shape(partial(tiles.own_kernels, arch), x)
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
    function = tiles._compiled()[tiles.on_whole_bands()][1]
    lowered = function.trace(arch, get, *target.abstract((np.int32(count), *operands))).lower()
    runs = math.ceil(n1 / rows) * math.ceil(n2 / columns) if whole else 1
    step = f"{n1} x {n2:,} pairs" if whole else f"tile of {rows} x {columns} pairs"
    what = f"NNGP and NTK of 32x32x3 images, ConvNet of depth 3, tiles of {rows} x {columns}"
    return Built(lowered, what, step=step, runs=runs, unknown_trips=rows)
