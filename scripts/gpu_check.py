#!/usr/bin/env python3
"""Is this accelerator fit for the work? Tests marked gpu, then benchmarks against their limits.

    python scripts/gpu_check.py [--json FILE]

Limits (a share of the matmul rate, so that they hold for any device): features of N networks at
LIMITS["features"] of float32 matmul with default precision, and a published-size RFAD step. Exit
code 0 when every limit is kept, 1 when one is not, 2 where there is no accelerator.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"features": 0.25}
MICRO = (160, 640, 1280)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import jax

    if jax.default_backend() == "cpu":
        print(
            "error: jax sees no accelerator; install distill-cli[cuda12] or [cuda13]",
            file=sys.stderr,
        )
        return 2
    tests = subprocess.call([sys.executable, "-m", "pytest", "-q", "-m", "gpu"], cwd=ROOT)
    passed = tests in (0, 5)  # 5: no test is marked
    record = {
        "date": date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "command": " ".join(sys.argv),
        "tests_passed": passed,
        "features": features_rate(),
    }
    best = max(row["share"] for row in record["features"])
    print(json.dumps(record, indent=1))
    print(f"features reach {best:.0%} of matmul, limit {LIMITS['features']:.0%}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if passed and best >= LIMITS["features"] else 1


def features_rate(images: int = 1280, networks: int = 8, repeats: int = 5) -> list[dict]:
    """Published width on 32x32x3: networks one after another, several micro-batch sizes."""
    from functools import partial

    import jax
    import jax.numpy as jnp

    from distill_cli.arch.layers import convnet
    from distill_cli.kernels.random_features import RandomFeatureKernel
    from distill_cli.methods.rfad import network_flops

    jax.config.update("jax_enable_x64", True)
    key = jax.random.key(0)
    kernel = RandomFeatureKernel(convnet(256, 3), (32, 32, 3), networks)
    parameters = jax.jit(kernel.sample)(key)
    x = jax.random.normal(key, (images, 32, 32, 3), jnp.float32)
    size = 8192
    square = jax.random.normal(key, (size, size), jnp.float32)
    matmul = 2 * size**3 / median(jax.jit(jnp.matmul), (square, square), repeats)
    rows = []
    for micro in MICRO:
        function = jax.jit(partial(kernel.features, micro=micro))
        taken = median(function, (parameters, x), repeats)
        rate = images * networks * network_flops(kernel) / taken
        rows.append(
            {"micro": micro, "seconds": taken, "tflops": rate / 1e12, "share": rate / matmul}
        )
    return rows


def median(function, arguments: tuple, repeats: int) -> float:
    """Median seconds of a warmed call."""
    import jax

    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


if __name__ == "__main__":
    sys.exit(main())
