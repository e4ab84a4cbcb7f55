"""FLOP of an instruction by precision: products, convolutions, factorisations, element by element.

Integer arithmetic is not counted. A hand-written kernel is a line in `KERNEL_FLOP`.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable

from gpu.hlo import Computation, Instruction, Module

SPECIAL_FUNCTION_FLOP = 8
# A product of split float32 numbers (x3, x6) also costs float32 arithmetic, in FLOP of the float32
# rate: each operand is cut into parts again for every tile that reads it (three conversions at half
# rate, two back, two differences), each result of a tile checked and added to the sum.
SPLIT_TILE = {"rows": 128, "columns": 128, "contracted": 32}
SPLIT_OPERAND_FLOP, SPLIT_RESULT_FLOP = 20, 8
ARITHMETIC = {
    "add", "subtract", "multiply", "negate", "abs", "maximum", "minimum", "clamp", "floor", "ceil",
    "round-nearest-even", "round-nearest-afz", "sign",
}  # fmt: skip
SPECIAL = {
    "divide", "sqrt", "rsqrt", "cbrt", "power", "exponential", "exponential-minus-one", "log",
    "log-plus-one", "logistic", "tanh", "tan", "sine", "cosine", "atan2", "erf", "remainder",
}  # fmt: skip
FLOATS = ("f64", "f32", "bf16", "f16")
Flop = dict[str, float]


def precision(one: Instruction, dtype: str) -> tuple[str, int]:
    """(key of the rates, passes) of a product of operands of this dtype. XLA multiplies float32 in
    TF32 unless told otherwise by operand_precision or algorithm."""
    algorithm = one.attribute(r"algorithm=(\w+)")
    if algorithm:
        passes = re.search(r"_x(\d)", algorithm, re.IGNORECASE)
        kind = re.match(r"dot_(tf32|bf16|f16|f32|f64)", algorithm)
        name = {"f16": "bf16"}.get(kind.group(1), kind.group(1)) if kind else "f32"
        return name, int(passes.group(1)) if passes else 1
    if dtype == "f64":
        return "f64", 1
    if dtype in ("bf16", "f16", "f8e4m3fn", "f8e5m2"):
        return "bf16", 1
    asked = one.attribute(r"operand_precision=\{([^}]*)\}") or ""
    return ("f32" if "high" in asked else "tf32"), 1


def dot_flop(one: Instruction, within: Computation) -> Flop:
    """2 x results x contracted length."""
    left = within[one.operands[0]].arrays[0]
    axes = one.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
    inner = 1
    for axis in filter(None, axes.split(",")):
        inner *= left.shape[int(axis)]
    kind, passes = precision(one, left.dtype)
    flop = {kind: 2.0 * one.arrays[0].size * inner * passes}
    if passes > 1:
        flop["f32"] = split_flop(left.size // inner, one.arrays[0].shape[-1], inner)
    return flop


def split_flop(rows: int, columns: int, inner: int) -> float:
    """Float32 arithmetic of a product of split numbers, (rows, inner) by (inner, columns)."""
    across, down = columns / SPLIT_TILE["columns"], rows / SPLIT_TILE["rows"]
    operands = inner * (rows * math.ceil(across) + columns * math.ceil(down))
    results = rows * columns * math.ceil(inner / SPLIT_TILE["contracted"])
    return float(SPLIT_OPERAND_FLOP * operands + SPLIT_RESULT_FLOP * results)


def convolution_flop(one: Instruction, within: Computation) -> Flop:
    """2 x places of the output x numbers of the weights; both are found by dim_labels, which in
    the gradients' calls still describe the forward convolution."""
    first, second = (within[name].arrays[0] for name in one.operands[:2])
    result, target = one.arrays[0], one.target or ""
    output, weights = result, second
    if "BackwardInput" in target:
        output = first
    elif "BackwardFilter" in target:
        output, weights = second, result
    labels = one.attribute(r"dim_labels=\w+->(\w+)") or "b01f"
    places = output.size / output.shape[labels.index("f")]
    kind, passes = precision(one, first.dtype)
    return {kind: 2.0 * places * weights.size * passes}


def _factorisation(one: Instruction, within: Computation) -> Flop:
    a = within[one.operands[0]].arrays[0]
    return {"f64" if a.dtype == "f64" else "f32": a.size * a.shape[-1] / 3}


def _triangular(one: Instruction, within: Computation) -> Flop:
    a, b = (within[name].arrays[0] for name in one.operands[:2])
    return {"f64" if a.dtype == "f64" else "f32": float(b.size * a.shape[-1])}


def _matmul(one: Instruction, within: Computation) -> Flop:
    a = within[one.operands[0]].arrays[0]
    axes = re.findall(r'"(\d+)"', one.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]') or "")
    inner = 1
    for axis in axes:
        inner *= a.shape[int(axis)]
    kind = "f32" if "HIGH" in one.rest else precision(one, a.dtype)[0]
    return {kind: 2.0 * one.arrays[0].size * inner}


# FLOP of custom calls and of hand-written kernels, by a regular expression that is looked for in
# the call's target and in the name of the kernel; the first that fits counts.
KERNEL_FLOP: list[tuple[str, Callable[[Instruction, Computation], Flop]]] = [
    (r"__cudnn\$conv", convolution_flop),
    (r"__cublas\$(gemm|lt\$matmul)", _matmul),
    (r"__cublas\$triangularSolve|trsm", _triangular),
    (r"potrf", _factorisation),
]


def kernel_name(one: Instruction) -> str:
    """Target of a custom call (of Triton kernels their own name), else the instruction's name
    without its number."""
    target = one.target
    if target is None:
        return re.sub(r"[.\d]+$", "", one.name)
    own = one.attribute(r'(?<![\w_])name\s*=\s*\\?"([\w.\-]+)') if "triton" in target else None
    return own or target


def own_flop(one: Instruction, within: Computation, module: Module) -> Flop:
    """FLOP of one run of an instruction, of the computations in it too."""
    total: Flop = defaultdict(float)
    if one.opcode == "fusion":
        inner = module.computations.get(one.calls or "", {})
        for part in inner.values():
            for kind, value in own_flop(part, inner, module).items():
                total[kind] += value
    elif one.opcode == "dot":
        return dot_flop(one, within)
    elif one.opcode == "convolution":
        return convolution_flop(one, within)
    elif one.opcode == "custom-call":
        for pattern, rule in KERNEL_FLOP:
            if re.search(pattern, f"{one.target} {kernel_name(one)}"):
                return rule(one, within)
    elif one.arrays and one.arrays[0].dtype in FLOATS:
        size = float(one.arrays[0].size)
        kind = "f64" if one.arrays[0].dtype == "f64" else "f32"
        if one.opcode in ARITHMETIC:
            total[kind] = size
        elif one.opcode in SPECIAL:
            total[kind] = size * SPECIAL_FUNCTION_FLOP
        elif one.opcode == "reduce" and one.operands[0] in within:
            total[kind] = float(within[one.operands[0]].arrays[0].size)
        elif one.opcode == "reduce-window":
            for side in (one.attribute(r"window=\{size=([\dx]+)") or "1").split("x"):
                size *= int(side)
            total[kind] = size
    return dict(total)
