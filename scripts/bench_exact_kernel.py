"""Time and memory of the exact kernels: the offset-band engine against neural-tangents, here.

    python scripts/bench_exact_kernel.py [--quick] [--case 8x8x1] [--json PATH] [--cores 1 2]

Every figure comes from a process of its own, pinned to its cores before jax is imported, so that
peak memory (resident, whole process) belongs to it alone; compiled and warmed first, the median of
its repeats: of CPU time on one core, so that other work on the machine does not count, of wall time
on several. Units: seconds per 1000 image pairs. "whole" is gram() from host arrays to host arrays,
"pairs" leaves out what is computed once per image; "gradient" is d(sum of both kernels)/d(images
of X1), "values" what the same compiled function takes without the derivative. neural-tangents runs
at the best of the batch sizes tried. "of peak" is the recursion's own arithmetic per second against
a measured float32 matrix product on the same cores.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time

KIP = "32x32x3 KIP"
CASES = {  # image shape, convolutions per block, images of X1 and X2, neural-tangents' batches
    "8x8x1": ((8, 8, 1), (1, 1), (64, 512), (4, 10)),
    "16x16x1": ((16, 16, 1), (1, 1, 1), (32, 128), (2, 4)),
    "28x28x1": ((28, 28, 1), (1, 1, 1), (16, 64), (2, 4)),
    "32x32x3": ((32, 32, 3), (1, 1, 1), (16, 64), (2, 3)),
    KIP: ((32, 32, 3), (2, 1, 1), (16, 64), (2,)),
    "64x64x3": ((64, 64, 3), (1, 1, 1, 1), (4, 16), (1,)),
}
QUICK = [("8x8x1", "both"), ("32x32x3", "both"), ("32x32x3", "gradient"), (KIP, "gradient")]
FULL = [(case, what) for case in CASES for what in ("nngp", "both")]
FULL += [(case, "gradient") for case in ("8x8x1", "32x32x3", KIP)]


def median_seconds(function, repeats: int) -> float:
    clock = time.process_time if len(os.sched_getaffinity(0)) == 1 else time.perf_counter
    function()
    times = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return statistics.median(times)


def matmul_gflops(n: int = 1024) -> float:
    """Float32 matrix product through XLA, GFLOP/s."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return 2e-9 * n**3 / median_seconds(lambda: product(a).block_until_ready(), 15)


def gflop_per_pair(architecture, shape, ntk: bool) -> float:
    """Arithmetic that one pair costs the band engine (blocks of one convolution, ReLU, pooling).

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


def pairs_only(net, x, z, get, repeats: int) -> float:
    """Seconds per 1000 pairs of one tile, its per-image scales given."""
    import jax
    import numpy as np

    from distill_cli.kernels.exact import tiles

    x, z = x[: tiles.ROWS], z[: tiles.tile_columns(z.shape[1:], z.dtype)]
    scales2 = tiles.self_kernels(net, z)[2]
    scales1 = tiles.self_kernels(net, np.resize(x, z.shape))[2]
    scales1 = jax.tree.map(lambda s: np.resize(s, (*s.shape[:-1], len(x))), scales1)

    def tile():
        jax.block_until_ready(tiles.tile(net, get, len(x), x, scales1, z, scales2))

    tile()
    start = time.perf_counter()
    tile()
    calls = max(1, int(0.05 / (time.perf_counter() - start)))
    seconds = median_seconds(lambda: [tile() for _ in range(calls)], repeats)
    return seconds * 1e3 / (calls * len(x) * len(z))


def measure_band(net, what: str, x, z, repeats: int) -> dict:
    import jax

    from distill_cli.kernels.exact import band_gram, gram

    row = {}
    if what == "gradient":

        def loss(a, b):
            return sum(kernel.sum() for kernel in band_gram(net, a, b))

        x = x[:8]
        for name, function in (("gradient", jax.grad(loss)), ("values", loss)):
            start = time.perf_counter()
            run = jax.jit(function).lower(x, z).compile()
            row[f"{name}_compile_seconds"] = time.perf_counter() - start
            seconds = median_seconds(lambda: jax.block_until_ready(run(x, z)), repeats)  # noqa: B023
            row[name] = seconds * 1e3 / (len(x) * len(z))
        return row | {"seconds": row["gradient"], "slower": row["gradient"] / row["values"]}
    get = ("nngp",) if what == "nngp" else ("nngp", "ntk")
    for part in (4, 2, 1):  # a quarter, half and all of X2
        few = z[: len(z) // part]
        seconds = median_seconds(lambda: gram(net, x, few, get=get), repeats)  # noqa: B023
        row[f"whole_{len(x)}x{len(few)}"] = seconds * 1e3 / (len(x) * len(few))
        row["seconds"] = row[f"whole_{len(x)}x{len(few)}"]
    row["pairs"] = pairs_only(net, x, z, get, repeats)
    return row


def measure_neural_tangents(net, what: str, x, z, batches, repeats: int) -> dict:
    import jax

    from distill_cli.kernels.exact import neural_tangents

    def ready(function, a, b):
        return jax.block_until_ready(function(a, b))

    found = {}
    for batch in batches:
        a, b = x[:batch], z[:batch]
        if what == "gradient":
            jax.config.update("jax_enable_x64", False)
            kernel = neural_tangents.stax_layers(net)[2]

            def loss(a, b, kernel=kernel):
                both = kernel(a, b, get=("nngp", "ntk"))
                return both.nngp.sum() + both.ntk.sum()

            gradient = jax.jit(jax.grad(loss))

            run = functools.partial(ready, gradient, a, b)
        else:
            get = ("nngp",) if what == "nngp" else ("nngp", "ntk")
            run = functools.partial(neural_tangents.block, net, a, b, get)
        found[batch] = median_seconds(run, repeats) * 1e3 / batch**2
    best = min(found, key=found.__getitem__)
    return {"seconds": found[best], "batch": best}


def measure(case: str, what: str, engine: str, quick: bool) -> dict:
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from distill_cli.arch.layers import convnet

    shape, per_block, (n1, n2), batches = CASES[case]
    net = convnet(1, len(per_block), per_block)
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(n, *shape)).astype(np.float32) for n in (n1, n2))
    if engine == "band":
        row = measure_band(net, what, x, z, 3 if quick else 5)
        if "pairs" in row and set(per_block) == {1}:
            row["gflops"] = gflop_per_pair(net, shape, what == "both") / (row["pairs"] / 1e3)
            row["of_peak"] = row["gflops"] / matmul_gflops()
    else:
        tried = batches[:1] if quick and shape[0] > 8 else batches
        row = measure_neural_tangents(net, what, x, z, tried, 1 if quick else 3)
    row["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cores = len(os.sched_getaffinity(0))
    return {"case": case, "what": what, "engine": engine, "cores": cores} | row


def child(job: tuple[str, str, str], cores: list[int], quick: bool) -> dict:
    command = [sys.executable, __file__, "--job", *job, *(["--quick"] if quick else [])]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return json.loads(done.stdout.splitlines()[-1])


HEADER = (
    "case",
    "cores",
    "kernels",
    "n-tangents",
    "whole",
    "pairs",
    "ratio",
    "of peak",
    "MB",
    "MB",
)


def print_row(band: dict, slow: dict) -> None:
    cells = [band["case"], str(band["cores"]), band["what"], f"{slow['seconds']:.3f}"]
    cells += [f"{band['seconds']:.4f}", f"{band['pairs']:.4f}" if "pairs" in band else "-"]
    cells += [f"{slow['seconds'] / band['seconds']:.0f}"]
    cells += [f"{band['of_peak']:.3f}" if "of_peak" in band else "-"]
    cells += [f"{slow['rss_mb']:.0f}", f"{band['rss_mb']:.0f}"]
    print(" ".join(cell.rjust(11) for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Exact kernels: time and memory")
    parser.add_argument("--quick", action="store_true", help="one core, few cases, under 2 minutes")
    parser.add_argument("--json", metavar="PATH", help="also write all figures there")
    parser.add_argument("--cores", type=int, nargs="+", help="core counts (default: 1 and all)")
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        case, what, engine = options.job
        print(json.dumps(measure(case, what, engine, options.quick)))
        return
    available = sorted(os.sched_getaffinity(0))
    counts = options.cores or ([1] if options.quick else sorted({1, len(available)}))
    rows = []
    print("seconds per 1000 pairs; MB: peak of neural-tangents' and of the band engine's process")
    print(" ".join(name.rjust(11) for name in HEADER))
    for count in counts:
        for case, what in QUICK if options.quick else FULL:
            if options.case not in (None, case):
                continue
            engines = ("band", "neural_tangents")
            pair = [child((case, what, e), available[-count:], options.quick) for e in engines]
            print_row(*pair)
            rows += pair
    if options.json:
        partial = f"{options.json}.partial"
        with open(partial, "w") as file:
            json.dump(rows, file, indent=1)
        os.replace(partial, options.json)


if __name__ == "__main__":
    main()
