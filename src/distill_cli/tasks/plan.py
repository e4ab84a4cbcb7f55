"""What a run will do, said before it starts."""

from pathlib import Path

import jax
import numpy as np

from distill_cli.config import Config, config_dir
from distill_cli.core import devices, memory
from distill_cli.methods.base import Distiller
from distill_cli.report import words
from distill_cli.sections import GROWING
from distill_cli.tasks.problem import Problem
from distill_cli.tasks.runtime import matmul_gflops
from distill_cli.train.batches import fits_resident

SHARE_OF_PRODUCTS = 0.5  # of the rate of matrix products that a step reaches
LONG = 12 * 3600.0  # seconds from which a run is called long


def device_name() -> str:
    """The device jax computes on, e.g. `cpu (2 cores)` or `NVIDIA H200`."""
    import os

    device = jax.devices()[0]
    if device.platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"cpu ({words.plural(cores or 1, 'core')})"
    return device.device_kind


def at_work(distiller: Distiller) -> str:
    """The devices of a run, and how many of them a step keeps busy where that is not all."""
    count, shares = len(devices.chosen()), getattr(distiller, "shares", None)
    if count == 1:
        return device_name()
    busy = count if shares is None else shares.busy
    text = f", {busy} of them at work in a step (docs/gpu.md)" if busy < count else ""
    return f"{count} x {device_name()}{text}"


def expected_memory(problem: Problem, networks: int) -> float:
    """Bytes that the arrays of a run take: an estimate, without the runtime's own overhead.

    Training set, validation images and their features, one micro-batch of activations, features of
    coreset and micro-batch, pixels and pixel matrix with two moments and a gradient each.
    """
    config, shape = problem.config, problem.dataset.image_shape
    pixels = shape[0] * shape[1] * shape[2]
    coreset = coreset_size(problem)
    width, blocks = config.architecture.width, getattr(config.architecture, "depth", 1)
    feature = max(shape[0] >> blocks, 1) * max(shape[1] >> blocks, 1) * width
    raw = problem.dataset.train.images
    train = raw.size * 4 * 2 if fits_resident(raw) else raw.nbytes * 2
    valid = len(problem.valid_rows) * 4 * pixels
    activations = features = 0
    if config.kernel.name == "random_features":
        valid += len(problem.valid_rows) * 4 * config.validation.networks * feature
        activations = 3 * min(problem.micro, 4096) * shape[0] * shape[1] * width * 4
        features = 3 * (coreset + problem.micro) * networks * feature * 4
    batch = min(config.batch.size, len(problem.train_rows)) * config.batch.number * pixels * 4
    learned = 4 * coreset * pixels * 4
    if getattr(config.method, "transform", False):
        learned += 5 * pixels * pixels * 4
    return train + valid + activations + features + batch + learned


def require_memory(problem: Problem) -> None:
    """UserError where the arrays of a run on a CPU cannot fit into the machine."""
    if jax.default_backend() != "cpu":
        return
    config, pixels = problem.config, float(np.prod(problem.dataset.image_shape))
    matrix = 5 * 4 * pixels**2 / 2**30 if getattr(config.method, "transform", False) else 0.0
    lower = "lower architecture.width, batch.size or dataset.image_size"
    if matrix > 1:
        lower += f"; method.transform=false saves the pixel matrix's {matrix:,.1f} GiB"
    networks = getattr(config.kernel, "networks", 1)
    memory.require(expected_memory(problem, networks), "the run", lower)


def estimated_seconds(flops: float) -> float | None:
    """Roughly what a step takes: its operations at half the machine's rate of float32 products.
    Steps of RFAD, FRePo, DC, DSA, DM and KIP reach a quarter to three quarters of it. None on
    accelerators, whose steps such products say nothing about."""
    if not flops or jax.default_backend() != "cpu":
        return None
    return flops / (SHARE_OF_PRODUCTS * 1e9 * matmul_gflops())


def pace(seconds: float | None, steps: int) -> str:
    """ " (roughly 40 s, 46 days in all)", or nothing where that is not known."""
    if seconds is None:
        return ""
    return f" (roughly {words.duration(seconds)}, {words.duration(seconds * steps)} in all)"


def shorter(config: Config) -> str:
    """What makes a run that is too long for this machine shorter."""
    place = config_dir() / "preset" / "cpu" / config.method.name / f"{config.dataset.name}.yaml"
    if config.hardware != "full":
        return "fewer steps= take less"
    if place.is_file():
        return "hardware=cpu is made for half an hour of two cores"
    return "hardware=cpu and fewer steps= take less"


def coreset_size(problem: Problem) -> int:
    """Images that the run ends with; ipc=0 stands for the whole training split."""
    return problem.config.ipc * len(problem.dataset.present) or len(problem.train_rows)


def course(config: Config) -> list[str]:
    """A line on what changes over the run: rates, sizes, the average; none where nothing does."""
    found = [] if config.schedule == "constant" else [f"rates {config.schedule}"]
    growth = config.growth
    for key in GROWING:
        if values := getattr(growth, key):
            ends = growth.starts(config.steps)[1:]
            parts = (f"{v} until step {end}" for v, end in zip(values, ends, strict=True))
            found.append(f"{key} {', '.join(parts)}")
    if config.average == "ema":
        found.append(
            f"moving average ({config.average_decay:g}) of all steps, which is validated and kept"
        )
    return [f"  course   {'; '.join(found)}"] if found else []


def step_flops(problem: Problem, distiller: Distiller) -> float:
    """Operations of a step."""
    batch = problem.config.batch
    size = min(batch.size, len(problem.train_rows))
    return distiller.flops(size * batch.number, coreset_size(problem))


def is_long(seconds: float | None, steps: int) -> bool:
    """Whether steps of so many seconds make a run that one should think twice about."""
    return (seconds or 0.0) * steps > LONG


def plan(
    problem: Problem, distiller: Distiller, folder: Path, steps: int, seconds: float | None = None
) -> str:
    """A short block: what runs, for at most how many steps (of roughly so many seconds, where that
    is known), on what, how large, where the result goes."""
    config, data = problem.config, problem.dataset
    height, width, channel = data.image_shape
    coreset = coreset_size(problem)
    networks = getattr(config.kernel, "networks", 1)
    size = min(config.batch.size, len(problem.train_rows))
    flops = step_flops(problem, distiller)
    expected = words.megabytes(max(1.0, expected_memory(problem, networks) / 2**20))
    kernel = f"exact {config.kernel.name} of {config.architecture.name}"
    if config.kernel.name == "random_features":
        kernel = (
            f"{config.kernel.name}, {networks} x {config.architecture.name} of width "
            f"{config.architecture.width}; micro {problem.micro}"
        )
    about = getattr(distiller, "about", None)  # methods with networks of their own say which
    kernel = f"networks {about}" if about else f"kernel   {kernel}"
    corrupt, prune = config.dataset.corrupt, config.prune.keep
    name = data.name if corrupt == "none" else f"{data.name} ({corrupt})"
    kept = "" if prune == "none" else f", {len(problem.train_rows)} kept (prune.keep={prune})"
    apart = data.valid is not None or config.validation.disjoint
    judges = "held-out images" if apart else "training images, which take part in distilling"
    lines = [
        f"{config.method.name} on {name}: {len(data.train.labels)} training images "
        f"{height}x{width}x{channel}{kept}, {data.classes} classes",
        f"  coreset  {coreset} images ({config.ipc or 'all'} per class), labels {config.labels}, "
        f"init {config.init.name}, seed {config.seed}",
        f"  {kernel}; batch {config.batch.number} x {size}; loss {config.loss}",
        f"  steps    at most {steps}, {flops / 1e9:.3g} GFLOP each{pace(seconds, steps)}; patience "
        f"{config.validation.patience}; validation on {len(problem.valid_rows)} {judges}",
        *([f"  long     {shorter(config)}"] if is_long(seconds, steps) else []),
        *course(config),
        f"  measures {', '.join(config.evaluation.protocols) or 'nothing'}",
        f"  device   {at_work(distiller)}, about {expected} for arrays",
        f"  result   {folder}",
    ]
    return "\n".join(lines)
