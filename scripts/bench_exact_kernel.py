"""Time of the exact kernels: the offset-band engine against neural-tangents, on this machine.

    python scripts/bench_exact_kernel.py [--quick] [--json PATH] [--cores 1 2]

Every core count runs in a process of its own, pinned before jax is imported; within it both
engines are compiled and warmed first, and each figure is the median of its repeats. Units: seconds
per 1000 image pairs. "pairs" leaves out what is computed once per image (the diagonals), "whole"
is gram() from host arrays to host arrays. "of peak" is the recursion's own arithmetic per second
against a measured float32 matrix product. MB are the temporaries of the compiled tile or gradient,
as XLA counts them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

CASES = {  # image shape, depth, images of X1 and X2 for the band, batches tried for neural-tangents
    "8x8x1 depth 2": ((8, 8, 1), 2, (64, 512), (4, 10)),
    "28x28x1 depth 3": ((28, 28, 1), 3, (16, 64), (2, 4)),
    "32x32x3 depth 3": ((32, 32, 3), 3, (16, 64), (2, 3)),
}


def median_seconds(function, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_gflops(n: int = 1024) -> float:
    """Float32 matrix product through XLA, GFLOP/s."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    return 2e-9 * n**3 / median_seconds(lambda: product(a).block_until_ready(), 15)


def gflop_per_pair(architecture, shape, ntk: bool) -> float:
    """Arithmetic that one pair costs the band engine (blocks of convolution, ReLU, pooling).

    Per ReLU entry: row sums 6 c (first block) or column and row sums 9; bias, scaling, f by one
    root and a polynomial, weighting 28; with the NTK 7 more in the first block, 29 later.
    """
    from distill_cli.kernels.exact.first_block import row_pairs
    from distill_cli.kernels.exact.geometry import plan

    total = 0
    pooled = [s for s in plan(architecture, shape[:2]).stages if s.kind == "relu_pool"]
    for index, stage in enumerate(pooled):
        (h, w), (ry, rx) = stage.pooled_size, stage.pooled_radius
        rows = len(row_pairs(h, ry)) if index == 0 else h * (2 * ry + 1)
        cost = 28 + (9 if index else 6 * shape[2]) + ntk * (29 if index else 7)
        total += 16 * rows * w * (2 * rx + 1) * cost
    return total * 1e-9


def measure(quick: bool) -> list[dict]:
    """All rows of the table for the cores this process may use."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from distill_cli.arch.layers import convnet
    from distill_cli.kernels.exact import gram, neural_tangents, tiles

    cores = len(os.sched_getaffinity(0))
    peak = matmul_gflops()
    rows = []
    repeats = 3 if quick else 7
    for name, (shape, depth, (n1, n2), batches) in CASES.items():
        net = convnet(1, depth)
        rng = np.random.default_rng(0)
        x1, x2 = (rng.normal(size=(n, *shape)).astype(np.float32) for n in (n1, n2))
        columns = tiles.tile_columns(shape, np.dtype(np.float32))
        z, x = x2[:columns], x1[: tiles.ROWS]
        scales2 = tiles.self_kernels(net, z)[2]
        scales1 = tiles.self_kernels(net, np.resize(x, z.shape))[2]
        scales1 = jax.tree.map(lambda s: np.asarray(s)[..., : tiles.ROWS], scales1)
        for label, get in (("NNGP", ("nngp",)), ("both", ("nngp", "ntk"))):

            def tile(get=get, x=x, s1=scales1, z=z, s2=scales2, net=net):
                jax.block_until_ready(tiles.tile(net, get, len(x), x, s1, z, s2))

            def whole(get=get, x1=x1, x2=x2, net=net):
                gram(net, x1, x2, get=get)

            tile(), whole()
            calls = max(1, 256 // (len(x) * columns // 16))
            pairs = median_seconds(lambda: [tile() for _ in range(calls)], repeats)  # noqa: B023
            pairs *= 1e3 / (calls * len(x) * columns)
            total = median_seconds(whole, repeats) * 1e3 / (n1 * n2)
            slow = {}
            for batch in batches[:1] if quick and shape[0] > 8 else batches:

                def block(batch=batch, get=get, x1=x1, x2=x2, net=net):
                    neural_tangents.block(net, x1[:batch], x2[:batch], get)

                block()
                slow[batch] = median_seconds(block, 1 if quick else 3) * 1e3 / batch**2
            best = min(slow, key=slow.__getitem__)
            compiled = tiles.compiled_tile(net, get, len(x), x, scales1, z, scales2)
            work = gflop_per_pair(net, shape, "ntk" in get)
            rows.append(
                {
                    "case": name,
                    "cores": cores,
                    "kernels": label,
                    "neural_tangents": slow[best],
                    "neural_tangents_batch": best,
                    "band_pairs": pairs,
                    "band_whole": total,
                    "ratio_pairs": slow[best] / pairs,
                    "ratio_whole": slow[best] / total,
                    "of_peak": work / (pairs / 1e3) / peak,
                    "peak_gflops": peak,
                    "tile_temp_mb": compiled.memory_analysis().temp_size_in_bytes / 2**20,
                }
            )
            print_row(rows[-1])
        if shape[0] != 28:
            rows.append(measure_gradient(name, net, x[:4], z, repeats) | {"cores": cores})
            print_row(rows[-1])
    return rows


def measure_gradient(name: str, net, x, z, repeats: int) -> dict:
    """d(sum of both kernels)/d(both image sets) through band_gram, float32."""
    import jax

    from distill_cli.kernels.exact import band_gram

    def loss(a, b):
        nngp, ntk = band_gram(net, a, b)
        return nngp.sum() + ntk.sum()

    start = time.perf_counter()
    gradient = jax.jit(jax.grad(loss, (0, 1))).lower(x, z).compile()
    compiling = time.perf_counter() - start
    seconds = median_seconds(lambda: jax.block_until_ready(gradient(x, z)), repeats)
    return {
        "case": name,
        "kernels": "gradient of both",
        "band_whole": seconds * 1e3 / (len(x) * len(z)),
        "compile_seconds": compiling,
        "tile_temp_mb": gradient.memory_analysis().temp_size_in_bytes / 2**20,
    }


COLUMNS = (
    ("case", "{:16s}"), ("cores", "{:>5}"), ("kernels", "{:>16s}"), ("neural_tangents", "{:>9.3f}"),
    ("band_pairs", "{:>9.4f}"), ("band_whole", "{:>9.4f}"), ("ratio_pairs", "{:>7.0f}"),
    ("ratio_whole", "{:>7.0f}"), ("of_peak", "{:>6.3f}"), ("tile_temp_mb", "{:>7.1f}"),
)  # fmt: skip


def print_row(row: dict) -> None:
    parts = []
    for key, form in COLUMNS:
        width = int("".join(c for c in form.split(".")[0] if c.isdigit()))
        parts.append(form.format(row[key]) if key in row else "-".rjust(width))
    print(" ".join(parts), file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats and batches")
    parser.add_argument("--json", metavar="PATH", help="also write all figures there")
    parser.add_argument("--cores", type=int, nargs="+", help="core counts (default: 1 and all)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.quick)))
        return
    available = sorted(os.sched_getaffinity(0))
    rows = []
    header = "case, cores, kernels, neural-tangents, pairs, whole, ratios, of peak, MB"
    print(f"seconds per 1000 pairs: {header}", file=sys.stderr)
    for count in options.cores or sorted({1, len(available)}):
        pinned = available[-count:]
        command = [sys.executable, __file__, "--worker", *(["--quick"] if options.quick else [])]
        worker = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, pinned),  # noqa: B023
        )
        rows += json.loads(worker.stdout.splitlines()[-1])
    if options.json:
        partial = f"{options.json}.partial"
        with open(partial, "w") as file:
            json.dump(rows, file, indent=1)
        os.replace(partial, options.json)


if __name__ == "__main__":
    main()
