#!/usr/bin/env python3
"""How fast are the features of N networks, as a share of this machine's float32 matmul rate?

    python scripts/bench_step.py [--json FILE] [--repeats 5]

Matmul and features run in turn in one process, warmed; medians. Also whole RFAD steps, and XLA's
temporary memory at several batch.micro.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from distill_cli.arch.layers import convnet
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.kernels.random_features import RandomFeatureKernel, cache_sized_micro
from distill_cli.methods import rfad
from distill_cli.tasks.plan import device_name
from distill_cli.version import __version__

# name, image shape, channels, networks, images
CASES = [
    ("CIFAR-10, published width", (32, 32, 3), 256, 2, 64),
    ("CIFAR-10, hardware=cpu", (32, 32, 3), 64, 8, 256),
    ("MNIST, published width", (28, 28, 1), 256, 2, 64),
    ("MNIST, hardware=cpu", (28, 28, 1), 64, 8, 256),
]
MATMUL = 2048


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """One timed call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)

    key = jax.random.key(0)
    square = jax.random.normal(key, (MATMUL, MATMUL), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    rows = []
    for name, shape, channels, networks, images in CASES:
        rows.append(
            case(options.repeats, key, multiply, square, name, shape, channels, networks, images)
        )
    print(f"{device_name()}, jax {jax.__version__}, median of {options.repeats}")
    head = f"{'case':28} {'matmul':>9} {'features':>9} {'share':>6} {'step':>8} {'micro':>6}    MiB"
    print(head + "\n" + "-" * len(head))
    for row in rows:
        print(
            f"{row['case']:28} {row['matmul_gflops']:7.0f} G {row['features_gflops']:7.0f} G "
            f"{row['share']:6.0%} {row['step_seconds']:6.3f} s {row['micro']:6} "
            f"{row['temporary_mib']:6.0f}"
        )
    if options.json:
        record = {
            "benchmark": "bench_step", "version": __version__, "jax": jax.__version__,
            "device": device_name(), "repeats": options.repeats, "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def case(
    repeats: int, key: Any, multiply: Any, square: Any, name: str, shape: tuple[int, int, int],
    channels: int, networks: int, images: int,
) -> dict[str, Any]:  # fmt: skip
    """Rates of one setting; matmul and features alternate, so that both see the same machine."""
    architecture = convnet(channels, 3)
    kernel = RandomFeatureKernel(architecture, shape, networks)
    micro = cache_sized_micro(architecture, shape)
    parameters = jax.jit(kernel.sample)(key)
    x = jax.random.normal(key, (images, *shape), jnp.float32)
    features = jax.jit(partial(kernel.features, micro=micro))
    method = rfad.RFAD(rfad.Config(transform=False), kernel, "platt", False, micro, 4, 0)
    labels = jnp.arange(images) % 10
    start = Coreset(x[:10], one_hot_centred(labels[:10], 10), jnp.zeros((), jnp.float64))
    state = method.init(key, start)
    batch = Batch(x, labels, jnp.ones(images, jnp.float32))
    step = jax.jit(method.step)
    for function, arguments in (
        (multiply, (square, square)), (features, (parameters, x)), (step, (state, batch, key)),
    ):  # fmt: skip
        seconds(function, *arguments)
    times = [
        (
            seconds(multiply, square, square),
            seconds(features, parameters, x),
            seconds(step, state, batch, key),
        )
        for _ in range(repeats)
    ]
    matmul, feature, whole = (statistics.median(column) for column in zip(*times, strict=True))
    work = images * networks * rfad.network_flops(kernel)
    memory = features.lower(parameters, x).compile().memory_analysis()
    return {
        "case": name, "channels": channels, "networks": networks, "images": images,
        "micro": micro, "matmul_gflops": 2 * MATMUL**3 / matmul / 1e9,
        "features_gflops": work / feature / 1e9,
        "share": (work / feature) / (2 * MATMUL**3 / matmul), "step_seconds": whole,
        "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
    }  # fmt: skip


if __name__ == "__main__":
    main()
