#!/usr/bin/env python3
"""How fast are an RFAD step and its features, as a share of this machine's float32 matmul rate?

    python scripts/bench_step.py [--quick] [--json FILE] [--repeats 5]
    python scripts/bench_step.py --against OTHER/src [--starts 3] [--repeats 5]

Matmul, features and step run in turn, warmed; medians. Also XLA's temporary memory. With --against
every case runs from this source tree and from another one in two processes that take turns, A B
B A, so that both meet the same machine; a ratio above 1 means that this tree is slower. Processes
are started afresh `starts` times, because one process's place in memory alone makes a few percent.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "src"

# image shape, channels, networks, batch images
CASES = {
    "CIFAR-10, published width": ((32, 32, 3), 256, 2, 64),
    "CIFAR-10, hardware=cpu": ((32, 32, 3), 64, 8, 256),
    "MNIST, published width": ((28, 28, 1), 256, 2, 64),
    "MNIST, hardware=cpu": ((28, 28, 1), 64, 8, 256),
}
QUICK = {"8x8, tiny": ((8, 8, 1), 8, 2, 32)}
MATMUL, QUICK_MATMUL = 2048, 256
PARTS = ("matmul", "features", "step")
CORESET, CLASSES = 10, 10


class Case:
    """One case, compiled and warmed; `turn` times every part once."""

    def __init__(self, name: str) -> None:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        from distill_cli.core.types import Batch, Coreset, one_hot_centred

        shape, channels, networks, images = {**CASES, **QUICK}[name]
        self.method, self.micro = distiller(shape, channels, networks, "method.transform=false")
        key = jax.random.key(0)
        self.size = QUICK_MATMUL if name in QUICK else MATMUL
        square = jax.random.normal(key, (self.size, self.size), jnp.float32)
        x = jax.random.normal(key, (images, *shape), jnp.float32)
        labels = jnp.arange(images) % CLASSES
        start = Coreset(
            x[:CORESET], one_hot_centred(labels[:CORESET], CLASSES), jnp.zeros((), jnp.float64)
        )
        kernel = self.method.kernel
        drawn = jax.jit(kernel.sample)(key)
        features = jax.jit(lambda networks, x: kernel.features(networks, x, self.micro))
        state = self.method.init(key, start)
        batch = Batch(x, labels, jnp.ones(images, jnp.float32))
        self.calls: dict[str, tuple[Callable[..., Any], tuple]] = {
            "matmul": (jax.jit(jnp.matmul), (square, square)),
            "features": (features, (drawn, x)),
            "step": (jax.jit(self.method.step), (state, batch, key)),
        }
        memory = features.lower(drawn, x).compile().memory_analysis()
        self.facts = {
            "case": name, "channels": channels, "networks": networks, "images": images,
            "micro": self.micro, "matmul_flops": 2 * self.size**3,
            # A step with an empty coreset is the forward pass of the batch.
            "features_flops": self.method.flops(images, 0),
            "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        }  # fmt: skip
        self.turn()

    def turn(self) -> dict[str, float]:
        """Seconds of one call of every part."""
        import jax

        taken = {}
        for part, (function, arguments) in self.calls.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            taken[part] = time.perf_counter() - start
        return taken


def distiller(
    shape: tuple[int, int, int], channels: int, networks: int, *overrides: str
) -> tuple[Any, int]:
    """(RFAD as a run makes it from its configuration, images at a time)."""
    import jax

    from distill_cli.arch.layers import convnet
    from distill_cli.cli.compose import compose, parse
    from distill_cli.methods.base import Setting, make_distiller

    try:
        from distill_cli.kernels.micro_batches import cache_sized_micro
    except ImportError:  # --against a tree that has it in another module
        from distill_cli.kernels.random_features import cache_sized_micro

    sizes = [f"kernel.networks={networks}", f"architecture.width={channels}"]
    chosen = ["method=rfad", "loss=platt", "labels=fixed", *sizes, *overrides]
    architecture = convnet(channels, 3)
    micro = cache_sized_micro(architecture, shape)
    if jax.default_backend() != "cpu":
        micro = 640
    setting = Setting(
        config=parse(compose("config", chosen)),
        architecture=architecture,
        image_shape=shape,
        classes=CLASSES,
        micro=micro,
    )
    return make_distiller(setting), micro


class Worker:
    """A process of its own that computes with one source tree, a turn for every line it is sent;
    its first line, and each answer, is JSON."""

    def __init__(self, source: Path, script: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source)}
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # two processes share a GPU
        self.process = subprocess.Popen(
            [sys.executable, script, "--worker", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def answer(self) -> Any:
        """The worker's next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with exit code {self.process.wait()}")
        return json.loads(line)

    def turn(self) -> dict[str, float]:
        """Ask for a turn and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work(case: str) -> None:
    """The worker's side: facts of the case and its source, then a turn for every line read."""
    import distill_cli

    made = Case(case)
    print(json.dumps({**made.facts, "source": str(Path(distill_cli.__file__).parents[1])}))
    sys.stdout.flush()
    for _ in sys.stdin:
        print(json.dumps(made.turn()), flush=True)


def compare(case: str, other: Path, starts: int, repeats: int) -> dict[str, Any]:
    """Median seconds of both trees and the median over starts of the ratio, this over other."""
    sources = {"this": HERE, "other": other}
    seconds: dict[str, dict[str, list[float]]] = {
        side: {part: [] for part in PARTS} for side in sources
    }
    ratios: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(starts):
        workers = {side: Worker(source, __file__, case) for side, source in sources.items()}
        for side, worker in workers.items():
            found = Path(worker.answer()["source"])
            if found != sources[side]:
                raise SystemExit(f"{sources[side]}: holds no distill_cli ({found} was imported)")
        turns: dict[str, list[dict[str, float]]] = {side: [] for side in sources}
        for index in range(repeats):
            for side in ("this", "other") if index % 2 == 0 else ("other", "this"):
                turns[side].append(workers[side].turn())
        for worker in workers.values():
            worker.close()
        for part in PARTS:
            here, there = ([turn[part] for turn in turns[side]] for side in ("this", "other"))
            seconds["this"][part] += here
            seconds["other"][part] += there
            ratios[part].append(statistics.median(here) / statistics.median(there))
    row: dict[str, Any] = {"case": case}
    for part in PARTS:
        row |= {f"{part}_{side}": statistics.median(seconds[side][part]) for side in sources}
        row |= {f"{part}_ratio": statistics.median(ratios[part]), f"{part}_ratios": ratios[part]}
    return row


def measure(case: str, repeats: int) -> dict[str, Any]:
    """Rates of one case in this process."""
    made = Case(case)
    turns = [made.turn() for _ in range(repeats)]
    matmul, features, step = (statistics.median(turn[part] for turn in turns) for part in PARTS)
    row = made.facts
    row["matmul_gflops"] = row.pop("matmul_flops") / matmul / 1e9
    row["features_gflops"] = row.pop("features_flops") / features / 1e9
    return row | {"share": row["features_gflops"] / row["matmul_gflops"], "step_seconds": step}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one tiny case, in seconds")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path, metavar="SRC", help="src folder of another tree")
    parser.add_argument("--starts", type=int, help="with --against; default 3, with --quick 1")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return 0
    if options.repeats < 1 or (options.starts is not None and options.starts < 1):
        return fail("--repeats and --starts: must be at least 1")
    if options.against and not (options.against / "distill_cli" / "__init__.py").is_file():
        return fail(f"--against={options.against}: no distill_cli in it; give a src folder")
    cases = QUICK if options.quick else CASES
    record: dict[str, Any] = {"benchmark": "bench_step", "repeats": options.repeats}
    if options.against:
        starts = options.starts or (1 if options.quick else 3)
        other = options.against.resolve()
        record |= {"starts": starts, "against": options.against.name}
        record["rows"] = [compare(case, other, starts, options.repeats) for case in cases]
        print(f"this tree against {other}, medians of {starts} x {options.repeats} turns")
        print_comparison(record["rows"])
    else:
        record["rows"] = [measure(case, options.repeats) for case in cases]
        record |= machine()
        print(f"{record['device']}, jax {record['jax']}, median of {options.repeats}")
        print_rates(record["rows"])
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def machine() -> dict[str, str]:
    """Program, library and device."""
    import jax

    from distill_cli.tasks.plan import device_name
    from distill_cli.version import __version__

    return {"version": __version__, "jax": jax.__version__, "device": device_name()}


def print_rates(rows: list[dict[str, Any]]) -> None:
    head = f"{'case':28} {'matmul':>9} {'features':>9} {'share':>6} {'step':>8} {'micro':>6}    MiB"
    print(head + "\n" + "-" * len(head))
    for row in rows:
        print(
            f"{row['case']:28} {row['matmul_gflops']:7.0f} G {row['features_gflops']:7.0f} G "
            f"{row['share']:6.0%} {row['step_seconds']:6.3f} s {row['micro']:6} "
            f"{row['temporary_mib'] or 0:6.0f}"
        )


def print_comparison(rows: list[dict[str, Any]]) -> None:
    head = f"{'case':28} {'part':9} {'this':>11} {'other':>11} {'ratio':>7}  of each start"
    print(head + "\n" + "-" * len(head))
    for row in rows:
        for part in PARTS:
            each = " ".join(f"{ratio:.3f}" for ratio in row[f"{part}_ratios"])
            print(
                f"{row['case']:28} {part:9} {1e3 * row[f'{part}_this']:8.2f} ms "
                f"{1e3 * row[f'{part}_other']:8.2f} ms {row[f'{part}_ratio']:7.3f}  {each}"
            )


def fail(message: str) -> int:
    """Print one line; exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
