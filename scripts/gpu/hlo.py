"""Optimised HLO text as data: computations, instructions, and the order in which a GPU runs them.

XLA prints a module as computations, one of them the ENTRY, each a list of instructions

    %name = type opcode(%operand, ...), attribute=value, ..., calls=%other, body=%other

On a GPU an instruction outside fusions is a kernel launch; loops and conditionals call other
computations. `launches` follows them and multiplies by trip counts.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

BYTES = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4,
    "s64": 8, "u64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16,
    "f8e4m3fn": 1, "f8e5m2": 1,
}  # fmt: skip
ARRAY = re.compile(r"\b([a-z]+\d*(?:e\dm\d(?:fn)?)?|pred)\[([\d,]*)\]")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
START = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
NAME = re.compile(r"%([\w.\-]+)")
COMMENT = re.compile(r"/\*.*?\*/")

# Instructions that are no work on the device.
FREE = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "partition-id",
    "replica-id", "opt-barrier", "domain", "add-dependency", "get-dimension-size",
}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """A dtype and a shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of it."""
        return math.ceil(self.size * BYTES[self.dtype])


@dataclass(frozen=True)
class Instruction:
    """One line; type: its result's text; rest: the attributes' text."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    inside: str  # between the parentheses, where constants and parameters have their value
    rest: str
    root: bool

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The result's arrays; several where it is a tuple."""
        found = ARRAY.findall(self.type)
        return tuple(
            Array(dtype, tuple(int(n) for n in dims.split(",") if n))
            for dtype, dims in found
            if dtype in BYTES
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return sum(array.nbytes for array in self.arrays)

    def attribute(self, pattern: str) -> str | None:
        """The first group of a regular expression in the attributes."""
        found = re.search(pattern, self.rest)
        return found.group(1) if found else None

    @property
    def target(self) -> str | None:
        """Of a custom call, what is called."""
        return self.attribute(r'custom_call_target="([^"]+)"')

    @property
    def calls(self) -> str | None:
        """The computation of a fusion, call or asynchronous start."""
        return self.attribute(r"(?:calls|to_apply)=%?([\w.\-]+)")

    @property
    def trips(self) -> int | None:
        """Known trip count of a loop."""
        found = self.attribute(r'"?known_trip_count"?:\{"?n"?:"?(\d+)')
        return None if found is None else int(found)

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional."""
        listed = self.attribute(r"branch_computations=\{([^}]*)\}")
        if listed is not None:
            return NAME.findall(listed)
        return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", self.rest)


Computation = dict[str, Instruction]


def behind(name: str, within: Computation) -> Instruction:
    """The instruction that makes a value, looking through bitcasts."""
    one = within[name]
    return behind(one.operands[0], within) if one.opcode == "bitcast" else one


@dataclass(frozen=True)
class Module:
    """computations by name, and the entry's name."""

    computations: dict[str, Computation]
    entry: str


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.finditer(r"[()]", text[start:]):
        depth += 1 if found.group() == "(" else -1
        if depth == 0:
            return start + found.start()
    raise ValueError(f"unbalanced parentheses: {text[start : start + 80]}")


def parse_instruction(line: str) -> Instruction | None:
    """One line of a computation; None for what is no instruction."""
    line = COMMENT.sub("", line)
    head = START.match(line)
    if not head:
        return None
    at = head.end()
    end = _closing(line, at) + 1 if line[at] == "(" else line.index(" ", at)
    opened = line.index("(", end)
    closed = _closing(line, opened)
    inside = line[opened + 1 : closed]
    return Instruction(
        head.group(2), line[at:end], line[end:opened].strip(), tuple(NAME.findall(inside)), inside,
        line[closed + 1 :], bool(head.group(1)),
    )  # fmt: skip


def parse(text: str) -> Module:
    """A module from its text; ValueError where there is no entry."""
    computations: dict[str, Computation] = {}
    current: Computation | None = None
    entry = ""
    for line in text.splitlines():
        if line.startswith("}"):
            current = None
        elif current is not None:
            if (instruction := parse_instruction(line)) is not None:
                current[instruction.name] = instruction
        elif not line.startswith("HloModule") and (found := HEADER.match(line)):
            current = computations.setdefault(found.group(2), {})
            entry = found.group(2) if found.group(1) else entry
    if not entry:
        raise ValueError("HLO text without an ENTRY computation")
    return Module(computations, entry)


@dataclass(frozen=True)
class Launch:
    """An instruction that runs on the device `times` times; within: its computation. A loop of
    unknown length is one too, with as many times as it looks at its condition."""

    times: int
    instruction: Instruction
    within: Computation


Weigh = Callable[[Launch], float]


def launches(module: Module, weigh: Weigh, unknown_trips: int = 1) -> list[Launch]:
    """Every launch of one run of the module.

    unknown_trips: trips of loops whose length the text does not tell; their conditions run on the
    device, and the host waits for each. Of a conditional the branch with the largest sum of
    weigh(launch) is taken.
    """

    def follow(name: str, times: int) -> Iterator[Launch]:
        within = module.computations[name]
        for one in within.values():
            if one.opcode in FREE or one.opcode.endswith("-done"):
                continue
            if one.opcode == "while":
                body = one.attribute(r"body=%?([\w.\-]+)") or ""
                condition = one.attribute(r"condition=%?([\w.\-]+)") or ""
                trips = one.trips
                if trips is None:
                    trips = unknown_trips
                    yield Launch(times * trips, one, within)
                    yield from follow(condition, times * (trips + 1))
                yield from follow(body, times * trips)
            elif one.opcode == "conditional":
                found = [list(follow(branch, times)) for branch in one.branches]
                yield from max(found, key=lambda branch: sum(map(weigh, branch)), default=[])
            elif one.opcode == "call" or (one.opcode == "async-start" and one.calls):
                yield from follow(one.calls or "", times)
            else:
                yield Launch(times, one, within)

    return list(follow(module.entry, 1))
