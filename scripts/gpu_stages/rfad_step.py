"""Stage b: the RFAD step at published size, by micro-batch, arithmetic and fused first block.

Cells come in waves, the most important first: all programs of a wave are compiled at the same time
in threads, then timed one after another. The first, untimed step of a cell starts from the same
state with the same networks and images in all of them, so the gradients that it leaves in the
optimiser compare: cosine of each cell's with the float32 one, and, for scale, of float32 with
networks drawn afresh.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from distill_cli.kernels import products
from distill_cli.tasks.runtime import configure_jax
from gpu_stages.problems import (
    CIFAR,
    SMALL,
    TINY_RFAD,
    cifar_points,
    compiled,
    cosine,
    distiller,
    first_moment,
    matmul_rates,
    median_ms,
    points,
    seconds_of,
)
from gpu_stages.record import Record, parse


class Cell(NamedTuple):
    """One program: arithmetic, fused first block, images at a time, images per class; repeats:
    operations that do not repeat are excluded (core/determinism.py)."""

    features: str
    fused: bool
    micro: int
    ipc: int = 10
    repeats: bool = True


def waves() -> list[list[Cell]]:
    """All cells in order of worth. A wave holds one kind of block only: should a compiler end the
    process over the fused kernel, XLA's own path is already measured."""
    return [
        [Cell("float32", False, 2560), Cell("tf32", False, 2560), Cell("bfloat16", False, 2560),
         Cell("tf32", False, 640)],
        [Cell("tf32", True, 2560), Cell("bfloat16", True, 2560), Cell("tf32", True, 640),
         Cell("bfloat16", True, 640)],
        [Cell("bfloat16", False, 640), Cell("float32", False, 640), Cell("tf32", False, 1280),
         Cell("tf32", True, 2560, repeats=False)],
        [Cell("tf32", True, 2560, 50), Cell("tf32", True, 1280), Cell("bfloat16", True, 1280),
         Cell("tf32", True, 128), Cell("float32", True, 2560)],
        [Cell("tf32", False, 128), Cell("tf32", False, 64), Cell("bfloat16", False, 1280),
         Cell("tf32", False, 2560, 50), Cell("bfloat16", True, 2560, 50)],
        [Cell("float32", False, 1280), Cell("float32", True, 640), Cell("tf32", True, 64),
         Cell("bfloat16", True, 128), Cell("bfloat16", False, 128), Cell("float32", False, 128)],
    ]  # fmt: skip


def tiny_waves() -> list[list[Cell]]:
    """For a rehearsal on a CPU."""
    return [
        [Cell("float32", False, 64), Cell("bfloat16", False, 32)],
        [Cell("tf32", True, 64), Cell("float32", False, 64, repeats=False)],
    ]


class Program(NamedTuple):
    """A compiled cell."""

    step: Any
    state: Any
    flops: float
    facts: dict[str, Any]


class Problem(NamedTuple):
    """Where all cells of one size start, on the device, and the start's images on the host."""

    start: Any
    batch: Any
    images: np.ndarray


def method_of(cell: Cell, tiny: bool) -> Any:
    """The distiller of a cell."""
    overrides = [
        "method=rfad", "dataset=cifar10", f"ipc={cell.ipc}", f"batch.micro={cell.micro}",
        f"kernel.features={cell.features}", f"kernel.fused={str(cell.fused).lower()}",
        *(TINY_RFAD if tiny else ()),
    ]  # fmt: skip
    return distiller(overrides, SMALL if tiny else CIFAR)[0]


def build(cell: Cell, method: Any, problem: Problem) -> Program:
    """Compile the step of a cell for its start and batch."""
    options = None if cell.repeats else {"xla_gpu_exclude_nondeterministic_ops": False}
    state = method.init(jax.random.key(0), problem.start)
    step, facts = compiled(method.step, state, problem.batch, jax.random.key(1), options=options)
    flops = method.flops(len(problem.batch.labels), len(problem.start.labels))
    return Program(step, state, flops, facts)


def measure(program: Program, problem: Problem, repeats: int) -> tuple[dict[str, Any], Any, Any]:
    """(figures of warmed steps, gradient of the first step, the same with fresh networks)."""
    gradients = []
    for number in (1, 2):
        after, _ = program.step(program.state, problem.batch, jax.random.key(number))
        gradients.append(first_moment(after, problem.images))
    state = [after]

    def step() -> Any:
        state[0], info = program.step(state[0], problem.batch, jax.random.key(3))
        return info

    times = seconds_of(step, repeats)
    figures = {"ms": median_ms(times), "ms_least": median_ms([min(times)]), "steps": repeats}
    return figures | {"tflops": program.flops / np.median(times) / 1e12}, *gradients


def main() -> int:
    call = parse()
    record = Record(call.record)
    configure_jax()
    tiny = call.rehearse
    rates = matmul_rates(512 if tiny else 8192)
    # Whether kernel matrices are split here, and what it gains, stands beside the rates.
    record.put(matmul_tflops=rates, kernel_matrix=products.arithmetic_of("tf32"))
    problems: dict[int, Problem] = {}
    reference = None
    for wave in tiny_waves() if tiny else waves():
        for ipc in {cell.ipc for cell in wave} - problems.keys():
            start, batch, source = (
                (*points(10 * ipc, 64, SMALL), "standard normal")
                if tiny
                else cifar_points(call.work, 10 * ipc, 5120)
            )
            problems[ipc] = Problem(*jax.device_put((start, batch)), start.images)
            record.put(images=source)
        methods = [method_of(cell, tiny) for cell in wave]
        with ThreadPoolExecutor(len(wave)) as pool:
            made = [
                pool.submit(build, cell, method, problems[cell.ipc])
                for cell, method in zip(wave, methods, strict=True)
            ]
        for cell, future in zip(wave, made, strict=True):
            with record.guarded("cells", **cell._asdict()) as row:
                program = future.result()
                row |= program.facts
                figures, gradient, fresh = measure(program, problems[cell.ipc], 3 if tiny else 8)
                row |= figures | {"of_matmul": figures["tflops"] / rates[cell.features]}
                if reference is None and cell.features == "float32":
                    reference = gradient
                    record.put(cosine_of_fresh_networks=cosine(fresh, gradient))
                if reference is not None and cell.ipc == 10:
                    row["cosine_with_float32"] = cosine(gradient, reference)
        if call.left() < 25 and not tiny:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
