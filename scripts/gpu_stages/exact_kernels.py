"""Stage c: exact-kernel pairs a second at several tile sizes, and iterations of KIP.

Everything through public functions: `gram` with a bound on its memory, which decides the tiles, and
the distiller of `distill method=kip`. Sizes grow until a call takes a few seconds.
"""

import sys
import time
from typing import Any

import jax
import numpy as np

from distill_cli.arch.layers import convnet
from distill_cli.kernels.exact import gram
from distill_cli.tasks.runtime import configure_jax
from gpu_stages.problems import CIFAR, SMALL, compiled, distiller, points, seconds_of
from gpu_stages.record import Call, Record, parse

BOUNDS = (16384, 512, 4096)  # MB; 512 is the default
ENOUGH = 2.0  # seconds of one call
MOST = 10000  # test images of CIFAR-10


def pairs_per_second(call: Call, record: Record, memory_mb: int) -> None:
    """Both kernels of the published network between n1 and n2 images of CIFAR-10's shape."""
    random = np.random.default_rng(0)
    shape, n1, n2, most = (CIFAR, 100, 1024, MOST) if not call.rehearse else (SMALL, 4, 16, 32)
    network = convnet(1, 3)
    with record.guarded("pairs", memory_mb=memory_mb, n1=n1) as row:
        x1 = random.standard_normal((n1, *shape), np.float32)
        while True:
            x2 = random.standard_normal((n2, *shape), np.float32)
            begun = time.perf_counter()
            gram(network, x1, x2, memory_mb=memory_mb)
            first = time.perf_counter()
            gram(network, x1, x2, memory_mb=memory_mb)
            taken = time.perf_counter() - first
            row |= {"n2": n2, "seconds": taken, "pairs_per_second": n1 * n2 / taken}
            row.setdefault("first_call_s", round(first - begun, 2))
            if taken > ENOUGH or n2 >= most or call.left() < 4 * taken * 4 + 10:
                break
            n2 = min(most, 4 * n2)


def kip(call: Call, record: Record) -> None:
    """A step of `distill method=kip dataset=cifar10 ipc=10` (NTK, float32), batch by batch larger;
    one that would not end in time by the last one's rate is left out."""
    shape, ipc, sizes = (CIFAR, 10, (128, 1024, 5000)) if not call.rehearse else (SMALL, 1, (16,))
    rate = None
    for size in sizes:
        pairs = (size + 10 * ipc) * 10 * ipc
        expected = None if rate is None else pairs / rate
        with record.guarded("kip", ipc=ipc, batch=size, pairs=pairs) as row:
            if expected is not None and 2 * expected + 25 > call.left():
                row["left_out"] = f"{expected:.0f} s a step expected"
                return
            depth = ["architecture.depth=1", "architecture.convs=null"] if call.rehearse else []
            settings = ["method=kip", "dataset=cifar10", f"ipc={ipc}", f"batch.size={size}"]
            method, _ = distiller([*settings, *depth], shape)
            start, batch = points(10 * ipc, size, shape)
            state = method.init(jax.random.key(0), start)
            step, facts = compiled(method.step, state, batch, jax.random.key(1))
            row |= facts

            def one(step: Any = step, state: Any = state, batch: Any = batch) -> Any:
                return step(state, batch, jax.random.key(1))

            taken = seconds_of(one, 1)[0]
            if taken < call.left() / 4:
                taken = min(seconds_of(one, 1))
            rate = pairs / taken
            row |= {"seconds": taken, "pairs_per_second": rate}


def main() -> int:
    call = parse()
    record = Record(call.record)
    configure_jax("ntk")
    pairs_per_second(call, record, BOUNDS[0])
    kip(call, record)
    for bound in BOUNDS[1:]:
        if call.left() > 12:
            pairs_per_second(call, record, bound)
    return 0


if __name__ == "__main__":
    sys.exit(main())
