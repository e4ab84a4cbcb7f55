"""Distillers of the published settings, images to feed them, and clocks."""

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.kernels import products

CIFAR = (32, 32, 3)
CLASSES = 10
SMALL = (8, 8, 3)  # of rehearsals
TINY_RFAD = (
    "architecture.width=32", "architecture.depth=2", "kernel.networks=2", "batch.size=64",
    "batch.number=1",
)  # fmt: skip
COMPOSING = threading.Lock()  # Hydra's state is global to a process
SAMPLE = "sample.npz"  # in the work folder: preprocessed CIFAR-10, written by prepare.py


def distiller(
    overrides: list[str], shape: tuple[int, int, int] = CIFAR, classes: int = CLASSES
) -> tuple[Any, Any]:
    """(method, configuration) as a run makes them from `distill OVERRIDES`."""
    import importlib

    from distill_cli.cli.compose import compose, parse
    from distill_cli.kernels.micro_batches import micro_of_device
    from distill_cli.methods.base import Setting, make_distiller

    with COMPOSING:
        config = parse(compose("config", overrides))
    module = importlib.import_module(f"distill_cli.arch.{config.architecture.name}")
    architecture = module.build(config.architecture)
    micro = config.batch.micro or micro_of_device(architecture, shape)
    setting = Setting(
        config=config, architecture=architecture, image_shape=shape, classes=classes, micro=micro
    )
    return make_distiller(setting), config


def points(
    coreset: int, batch: int, shape: tuple[int, int, int] = CIFAR, classes: int = CLASSES, seed=0
) -> tuple[Coreset, Batch]:
    """Standard normal images, labels in turn: (initial coreset, batch), on the host."""
    random = np.random.default_rng(seed)
    images = random.standard_normal((coreset + batch, *shape), np.float32)
    return cut(images, np.arange(coreset + batch) % classes, coreset, classes)


def cifar_points(work: Path, coreset: int, batch: int) -> tuple[Coreset, Batch, str]:
    """The same of preprocessed CIFAR-10 where prepare.py has written it, and where from."""
    try:
        with np.load(work / SAMPLE) as sample:
            images, labels = sample["images"], sample["labels"]
    except (OSError, ValueError, KeyError):
        images = labels = np.zeros(0)
    if len(labels) < coreset + batch:
        return *points(coreset, batch), "standard normal"
    return *cut(images[: coreset + batch], labels[: coreset + batch], coreset, CLASSES), "cifar10"


def cut(
    images: np.ndarray, labels: np.ndarray, coreset: int, classes: int
) -> tuple[Coreset, Batch]:
    """The first images as a class-major coreset, the others as a batch."""
    order = np.argsort(labels[:coreset], kind="stable")
    targets = np.asarray(one_hot_centred(jnp.asarray(labels[:coreset][order]), classes))
    start = Coreset(images[:coreset][order], targets, np.zeros((), np.float64))
    rest = labels[coreset:].astype(np.int32)
    return start, Batch(images[coreset:], rest, np.ones(len(rest), np.float32))


def first_moment(state: Any, images: np.ndarray) -> np.ndarray:
    """The optimiser's first moment of the images after one step: their gradient times a constant.

    Adam, LAMB and AdaBelief keep (1 - b1) g, SGD with momentum keeps g. It is the first array of
    the images' shape in the optimiser's state.
    """
    found = [leaf for leaf in jax.tree.leaves(state.optimiser) if leaf.shape == images.shape]
    return np.asarray(found[0], np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """<a, b> / (|a| |b|)."""
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / |b|."""
    return float(np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b))


def compiled(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> tuple[Any, dict[str, float]]:
    """(jit(function) compiled for these arguments, {trace_s, compile_s, temp_mib}); options: XLA's,
    over its flags."""
    begun = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    traced = time.perf_counter()
    program = lowered.compile(options)
    memory = program.memory_analysis()
    return program, {
        "trace_s": round(traced - begun, 2), "compile_s": round(time.perf_counter() - traced, 2),
        "temp_mib": round(memory.temp_size_in_bytes / 2**20, 1) if memory else None,
    }  # fmt: skip


def seconds_of(call: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls of something that is compiled and warmed."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begun)
    return times


def median_ms(times: list[float]) -> float:
    """Median in milliseconds."""
    return round(1e3 * statistics.median(times), 3)


def matmul_rates(size: int, repeats: int = 10) -> dict[str, float]:
    """TFLOP/s of size x size matrix products: what this card reaches in each arithmetic; of
    bfloat16x6, kernels/products.py, in products of float32 numbers."""
    rates = {}
    square = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    for name, dtype, precision in (
        ("float32", jnp.float32, "highest"), ("tf32", jnp.float32, "default"),
        ("bfloat16", jnp.bfloat16, "default"), ("bfloat16x6", jnp.float32, products.SPLIT),
    ):  # fmt: skip
        a = square.astype(dtype)

        def product(a: Any, precision: Any = precision) -> Any:
            return jnp.matmul(a, a, precision=precision)

        program, _ = compiled(product, a)
        jax.block_until_ready(program(a))
        times = seconds_of(lambda program=program, a=a: program(a), repeats)
        rates[name] = 2 * size**3 / statistics.median(times) / 1e12
    return rates
