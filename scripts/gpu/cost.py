"""What a launch costs at best on an H100: bytes of device memory, FLOP by precision, seconds.

    seconds = max(bytes / bandwidth, sum over precisions of FLOP / rate, time of a launch)

An estimate from below for each kernel, added up without overlap; nothing is measured. Bytes are
what a kernel reads and writes once: slices and updates in place count what they touch. Memory that
stays in the 50 MB cache between kernels counts all the same.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpu.flop import (
    SPECIAL_FUNCTION_FLOP,
    SPLIT_OPERAND_FLOP,
    SPLIT_RESULT_FLOP,
    SPLIT_TILE,
    Flop,
    kernel_name,
    own_flop,
)
from gpu.hlo import Computation, Instruction, Launch, Module, behind, launches

ASSUMPTIONS = {
    "bandwidth_tb_per_s": 3.0,
    "tflops": {"tf32": 380.0, "bf16": 700.0, "f32": 60.0, "f64": 50.0},
    "launch_us": 3.0,
    "unknown_loop_us": 15.0,  # the host waits for the condition of a loop of unknown length
    "sort_passes": 4,  # radix sort of 32-bit keys, each pass a launch
    "special_function_flop": SPECIAL_FUNCTION_FLOP,
    "split_product": {
        "tile": SPLIT_TILE,
        "operand_flop": SPLIT_OPERAND_FLOP,
        "result_flop": SPLIT_RESULT_FLOP,
    },
    "nvlink_tb_per_s": 0.3,
    "conditional": "the dearest branch",
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
SLICES = {"dynamic-slice", "slice", "gather"}


def _through(name: str, users: dict[str, list[Instruction]]) -> Iterator[Instruction]:
    """Instructions that use a value, looking through bitcasts."""
    for user in users.get(name, []):
        if user.opcode == "bitcast":
            yield from _through(user.name, users)
        else:
            yield user


def _updated(one: Instruction, inner: Computation) -> int:
    """Bytes that an update in place writes (a scatter reads them, too)."""
    if one.opcode == "dynamic-update-slice":
        return inner[one.operands[1]].nbytes
    half = (len(one.operands) - 1) // 2  # scatter(operands..., indices, updates...)
    return 2 * sum(inner[name].nbytes for name in one.operands[half + 1 :])


def fusion_bytes(one: Instruction, within: Computation, module: Module) -> int:
    """Operands read and results written by a fusion. Operands of which only slices are used, and
    arrays that are updated in place, count as far as they are touched."""
    inner = module.computations.get(one.calls or "", {})
    users: dict[str, list[Instruction]] = defaultdict(list)
    for part in inner.values():
        for name in set(part.operands):
            users[name].append(part)
    root = next((part for part in inner.values() if part.root), None)
    if root is None:
        return one.nbytes + sum(within[n].nbytes for n in one.operands if n in within)
    outputs = root.operands if root.opcode == "tuple" else (root.name,)
    made = [behind(name, inner) for name in outputs]
    in_place = {part.name for part in made if part.opcode in ("dynamic-update-slice", "scatter")}
    total = 0
    for part in made:
        total += _updated(part, inner) if part.name in in_place else part.nbytes
    for part in inner.values():
        if part.opcode != "parameter":
            continue
        touched, names = 0, {part.name}
        for user in _through(part.name, users):
            is_first = user.operands and behind(user.operands[0], inner).name in names
            if user.opcode in SLICES and is_first:
                touched += user.nbytes
            elif not (user.name in in_place and is_first):
                touched += part.nbytes
        total += min(touched, part.nbytes)
    return total


def own_bytes(one: Instruction, within: Computation, module: Module) -> int:
    """Bytes of device memory that one run of an instruction reads and writes."""
    operands = [within[name].nbytes for name in one.operands if name in within]
    if one.opcode == "while":
        return 0
    if one.opcode == "fusion":
        return fusion_bytes(one, within, module)
    if one.opcode in SLICES:
        return 2 * one.nbytes + sum(operands[1:])
    if one.opcode in ("dynamic-update-slice", "scatter"):
        return 2 * _updated(one, within)
    if one.opcode == "sort":
        return ASSUMPTIONS["sort_passes"] * (one.nbytes + sum(operands))
    if one.opcode.endswith("-start"):
        return 2 * sum(operands)
    return one.nbytes + sum(operands)


@dataclass(frozen=True)
class Kernel:
    """A launch with what it costs; bytes, flop and wire (bytes to other devices) of one run,
    seconds of one run, launches of all runs."""

    launch: Launch
    name: str
    bytes: int
    flop: Flop
    wire: int
    seconds: float
    launches: int

    @property
    def times(self) -> int:
        return self.launch.times


def price(launch: Launch, module: Module) -> Kernel:
    """The cost of a launch."""
    one, within = launch.instruction, launch.within
    rates, name = ASSUMPTIONS["tflops"], kernel_name(one)
    if one.opcode == "while":
        return Kernel(launch, name, 0, {}, 0, ASSUMPTIONS["unknown_loop_us"] * 1e-6, 0)
    nbytes, flop = own_bytes(one, within, module), own_flop(one, within, module)
    wire = 0
    if one.opcode.startswith(COLLECTIVES):
        wire = sum(within[n].nbytes for n in one.operands if n in within)
        wire *= 2 if one.opcode.startswith("all-reduce") else 1
    count = ASSUMPTIONS["sort_passes"] if one.opcode == "sort" else 1
    seconds = max(
        nbytes / (ASSUMPTIONS["bandwidth_tb_per_s"] * 1e12),
        sum(value / (rates[kind] * 1e12) for kind, value in flop.items()),
        wire / (ASSUMPTIONS["nvlink_tb_per_s"] * 1e12),
        count * ASSUMPTIONS["launch_us"] * 1e-6,
    )
    return Kernel(launch, name, nbytes, flop, wire, seconds, count * launch.times)


def price_module(module: Module, unknown_trips: int = 1) -> list[Kernel]:
    """The cost of every launch of one run of the module."""

    def weigh(launch: Launch) -> float:
        return launch.times * price(launch, module).seconds

    return [price(launch, module) for launch in launches(module, weigh, unknown_trips)]


def summary(kernels: list[Kernel], scale: float, top: int = 5) -> dict[str, Any]:
    """Totals of all kernels, and the ones that take longest; scale: runs of the module per step."""
    flop: Flop = defaultdict(float)
    groups: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * 3)
    for kernel in kernels:
        for kind, value in kernel.flop.items():
            flop[kind] += kernel.times * value * scale
        group = groups[kernel.name, kernel.launch.instruction.type[:80]]
        shares = (kernel.seconds * 1e3, kernel.bytes, kernel.launches / max(kernel.times, 1))
        for index, value in enumerate(shares):
            group[index] += kernel.times * value * scale
    slowest = sorted(groups.items(), key=lambda item: -item[1][0])[:top]
    total = sum(kernel.launches for kernel in kernels)
    return {
        "launches": round(total * scale, 1),
        "launches_total": total,
        "hbm_bytes": round(sum(k.times * k.bytes for k in kernels) * scale),
        "wire_bytes": round(sum(k.times * k.wire for k in kernels) * scale),
        "flop": {kind: round(value) for kind, value in sorted(flop.items())},
        "roofline_ms": round(sum(k.times * k.seconds for k in kernels) * scale * 1e3, 4),
        "top": [
            {"kernel": name, "result": shape, "ms": round(ms, 4), "hbm_bytes": round(moved),
             "launches": round(count, 1)}
            for (name, shape), (ms, moved, count) in slowest
        ],
    }  # fmt: skip
