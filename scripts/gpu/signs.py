"""Bad signs in a compiled program: what a GPU does slowly, not at all, or never twice alike."""

from collections.abc import Iterator
from typing import Any

from gpu.cost import Kernel
from gpu.hlo import FREE, Computation, Instruction, Module, behind

USABLE_BYTES = 74 * 2**30  # of 80 GB
MOST_LAUNCHES = 5000  # a step
LARGE_BYTES = 16 * 2**20
COPIED_BYTES = 64 * 2**20  # a step, in kernels that only move data
MOVES = {
    "copy", "transpose", "reshape", "convert", "slice", "concatenate", "pad", "broadcast",
    "reverse", "bitcast", "parameter", "constant", "tuple", "get-tuple-element",
}  # fmt: skip
Sign = dict[str, str]


def find(module: Module, kernels: list[Kernel], memory: dict[str, int], scale: float) -> list[Sign]:
    """One {kind, text} for each kind of bad sign; scale: runs of the module per step."""
    found = [
        _memory(memory), _launches(kernels, scale), _grouped(kernels), _doubles(kernels),
        _callbacks(module), _copies(module, kernels, scale), _scatters(module, kernels, scale),
    ]  # fmt: skip
    return [sign for sign in found if sign is not None]


def needed_bytes(memory: dict[str, int]) -> int:
    """Device memory of a program: arguments, temporaries, and outputs in memory of their own."""
    outputs = memory["output_bytes"] - memory["alias_bytes"]
    return memory["argument_bytes"] + memory["temp_bytes"] + outputs


def _memory(memory: dict[str, int]) -> Sign | None:
    needed = needed_bytes(memory)
    if needed <= USABLE_BYTES:
        return None
    text = f"needs {needed / 2**30:.1f} GiB, usable are {USABLE_BYTES / 2**30:.0f}"
    return {"kind": "memory", "text": text}


def _launches(kernels: list[Kernel], scale: float) -> Sign | None:
    count = sum(kernel.launches for kernel in kernels) * scale
    if count <= MOST_LAUNCHES:
        return None
    return {"kind": "launches", "text": f"{count:,.0f} launches a step"}


def _grouped(kernels: list[Kernel]) -> Sign | None:
    shapes = []
    for kernel in kernels:
        one = kernel.launch.instruction
        groups = one.attribute(r"(?:feature|batch)_group_count=(\d+)")
        if groups and int(groups) > 1 and _largest(kernel) > LARGE_BYTES:
            shapes.append(f"{groups} groups -> {_shape(one)}")
    return _sign("grouped_convolution", shapes)


def _largest(kernel: Kernel) -> int:
    one, within = kernel.launch.instruction, kernel.launch.within
    operands = [a.nbytes for name in one.operands if name in within for a in within[name].arrays]
    return max([a.nbytes for a in one.arrays] + operands, default=0)


def _doubles(kernels: list[Kernel]) -> Sign | None:
    shapes = []
    for kernel in kernels:
        one = kernel.launch.instruction
        if one.opcode == "while":
            continue
        shapes += [
            f"{kernel.name} f64[{','.join(map(str, a.shape))}]"
            for a in one.arrays
            if a.dtype == "f64" and a.nbytes > LARGE_BYTES
        ]
    return _sign("float64", shapes)


def _callbacks(module: Module) -> Sign | None:
    names = []
    for computation in module.computations.values():
        for one in computation.values():
            is_host = "is_host_transfer=true" in one.rest
            if "callback" in (one.target or "") or one.opcode in ("infeed", "outfeed") or is_host:
                names.append(one.target or one.opcode)
    return _sign("host_callback", names)


def _copies(module: Module, kernels: list[Kernel], scale: float) -> Sign | None:
    moved, shapes = 0.0, []
    for kernel in kernels:
        if only_moves(kernel.launch.instruction, module):
            bytes_a_step = kernel.times * kernel.bytes * scale
            moved += bytes_a_step
            shapes.append((bytes_a_step, _shape(kernel.launch.instruction)))
    if moved <= COPIED_BYTES:
        return None
    largest = max(shapes)
    text = (
        f"{moved / 1e9:.2f} GB a step in kernels that only move data; "
        f"most: {largest[1]}, {largest[0] / 1e9:.2f} GB"
    )
    return {"kind": "copies", "text": text}


def only_moves(one: Instruction, module: Module) -> bool:
    """Whether a kernel is there to move data: a copy, a transpose, a fusion that ends in one, or
    one that computes nothing and is more than a conversion or broadcast."""
    if one.opcode in ("copy", "transpose", "copy-start"):
        return True
    if one.opcode != "fusion":
        return False
    inner = module.computations.get(one.calls or "", {})
    root = next((part for part in inner.values() if part.root), None)
    if root is not None and behind(root.name, inner).opcode in ("copy", "transpose"):
        return True
    used = {part.opcode for part in inner.values()}
    return used <= MOVES and bool(used & {"copy", "transpose", "concatenate", "pad", "reverse"})


def _scatters(module: Module, kernels: list[Kernel], scale: float) -> Sign | None:
    shapes = []
    for kernel in kernels:
        for part, _ in _parts(kernel.launch.instruction, kernel.launch.within, module):
            is_float = any(a.dtype in ("f64", "f32", "bf16", "f16") for a in part.arrays)
            if part.opcode == "scatter" and is_float and "unique_indices=true" not in part.rest:
                shapes.append(f"{_shape(part)}, {kernel.times * scale:g} a step")
    return _sign("scatter", shapes)


def _parts(
    one: Instruction, within: Computation, module: Module
) -> Iterator[tuple[Instruction, Computation]]:
    """An instruction, or all instructions of a fusion."""
    if one.opcode != "fusion":
        yield one, within
        return
    inner = module.computations.get(one.calls or "", {})
    for part in inner.values():
        if part.opcode not in FREE:
            yield from _parts(part, inner, module)


def _shape(one: Instruction) -> str:
    return one.type.split("{")[0].lstrip("(")


def _sign(kind: str, shapes: list[str]) -> Sign | None:
    """A sign with the first shapes and how many more there are."""
    if not shapes:
        return None
    distinct = list(dict.fromkeys(shapes))
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return {"kind": kind, "text": "; ".join(distinct[:3]) + more}


def kinds(row: dict[str, Any]) -> set[str]:
    """The kinds of bad signs in a row."""
    return {sign["kind"] for sign in row.get("bad_signs", [])}
