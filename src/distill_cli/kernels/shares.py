"""How the N networks of a step are shared out over devices, so that the sum comes out the same.

The devices form a mesh of two axes. Along "network" each holds its share of the networks, along
"batch" each takes its share of the batch's micro-batches; where N networks occupy all devices the
second axis has length 1. What is summed over networks or micro-batches is gathered and added in the
order of their numbers on every device, and a single device adds in the same order: the sum does not
depend, by a bit, on the number of devices. The terms are small (a Gram block of a micro-batch and
the coreset, a gradient of the coreset), so that the gathering costs little beside the networks.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from distill_cli.core import devices

NETWORK, BATCH, CLASS = "network", "batch", "class"
WHOLE = P()  # the same on every device


@dataclass(frozen=True)
class Shares:
    """mesh: axes (batch, network), or None where one device does everything; busy: devices that
    have something to do of their own."""

    mesh: Mesh | None = None
    busy: int = 1

    def axis(self, name: str) -> str | None:
        """The axis of that name, for `ordered_sum`; None where it has length 1."""
        return name if self.size(name) > 1 else None

    def size(self, name: str) -> int:
        return 1 if self.mesh is None else self.mesh.shape[name]

    def spread(self, function: Callable[..., Any], kept: Any = WHOLE, given: Any = WHOLE) -> Any:
        """The function run by every device on its share; as it is on a single device.

        Arguments and results are whole on every device, but for those that `given` and `kept` (a
        PartitionSpec, or one for each) say are split. The function finds out its part by
        `lax.axis_index` of the axes' names.
        """
        if self.mesh is None:
            return function
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=given, out_specs=kept, check_vma=False
        )


ALONE = Shares()


def in_a_row(axis: str, items: int) -> Shares:
    """All chosen devices along one axis, over which so many items are shared out."""
    count = len(devices.chosen())
    return ALONE if count == 1 else Shares(devices.row(axis), min(count, items))


def arrange(networks: int, pieces: int, micro: int, coreset: int) -> Shares:
    """The mesh of the chosen devices on which a step of these sizes is shortest.

    pieces: micro-batches of a step, of `micro` images; coreset: its images, whose networks are
    also differentiated (four times the work of a batch image, RFAD.flops). Shares may be uneven:
    the longest one counts, and among equals the mesh with most devices along the networks, which
    share the coreset's work too.
    """
    count = len(devices.chosen())
    if count == 1:
        return ALONE

    def work(along: int) -> tuple[int, int]:
        images = -(-pieces // (count // along)) * micro + 4 * coreset
        return -(-networks // along) * images, -along

    sizes = [n for n in range(1, min(count, networks) + 1) if count % n == 0]
    along = min(sizes, key=work)
    # Neighbours in the list of devices, which lie in one host, share the networks.
    grid = devices.row().devices.reshape(-1, along)
    mesh = Mesh(grid, (BATCH, NETWORK), axis_types=(AxisType.Auto, AxisType.Auto))
    return Shares(mesh, along * min(pieces, count // along))


def ordered_sum(
    term: Callable[[Any], Any],
    operands: Any,
    count: int,
    axis: str | None = None,
    unroll: bool = False,
) -> Any:
    """sum over i of term(operands_i), i = 0, 1, ..., added in this order to zero.

    An array of a term comes out of a matrix product, a convolution or a copy: a compiler may merge
    an elementwise product with the addition that follows it, and round once. Single numbers may
    come from anything; they are added behind the loop.
    operands: a pytree of arrays with i along their first axis; term: one of them to a pytree.
    axis: the mesh axis over which i is shared out in contiguous parts, padded at the end to equal
    lengths; `count` terms in all are real. Every device gets the sum.
    unroll: no loop, the terms are written out one after the other (not for CPUs: see `each`).
    """

    def apart(x: Any) -> tuple[list[Array], list[Array]]:
        """The term's arrays and its single numbers; kept out of the addition, so that no product
        of matrices is made a part of it."""
        leaves = jax.tree.leaves(lax.optimization_barrier(term(x)))
        return [y for y in leaves if y.ndim], [y for y in leaves if not y.ndim]

    def add(total: list[Array], value: list[Array]) -> tuple[list[Array], None]:
        return [a + b for a, b in zip(total, value, strict=True)], None

    def zeros(like: list[Any]) -> list[Array]:
        return [jnp.zeros(s.shape, s.dtype) for s in like]

    first = jax.tree.map(lambda x: x[0], operands)
    shapes, structure = jax.tree.flatten(jax.eval_shape(term, first))
    arrays, numbers = jax.eval_shape(apart, first)
    if axis is None:

        def both(total: list[Array], x: Any) -> tuple[list[Array], list[Array]]:
            value, number = apart(x)
            return add(total, value)[0], number

        total, stacked = lax.scan(both, zeros(arrays), operands, unroll=unroll)
    else:
        terms, stacked = each_gathered(apart, operands, count, axis, unroll)
        total = lax.scan(add, zeros(arrays), terms, unroll=unroll)[0]
    sums = iter(total), iter(lax.scan(add, zeros(numbers), stacked, count)[0])
    return structure.unflatten([next(sums[0] if shape.ndim else sums[1]) for shape in shapes])


def each_gathered(
    function: Callable[[Any], Any],
    operands: Any,
    count: int,
    axis: str | None = None,
    unroll: bool = False,
) -> Any:
    """function(operands_i), i = 0 .. count - 1, stacked; shared out as in `ordered_sum`, and all of
    them on every device."""
    found = each(function, operands, axis, unroll)
    if axis is None:
        return found
    return jax.tree.map(lambda x: lax.all_gather(x, axis, tiled=True)[:count], found)


def map_shared(shares: Shares, name: str, function: Callable[[Any], Any], operands: Any) -> Any:
    """[function(operands_0), function(operands_1), ...] stacked, shared out over the axis of that
    name; all of them on every device. Inside `shares.spread`."""
    own, count, axis = _shared(shares, name, operands)
    return each_gathered(function, own, count, axis)


def sum_shared(shares: Shares, name: str, term: Callable[[Any], Any], operands: Any) -> Any:
    """ordered_sum of term(operands_0), term(operands_1), ..., shared out likewise."""
    own, count, axis = _shared(shares, name, operands)
    return ordered_sum(term, own, count, axis)


def _shared(shares: Shares, name: str, operands: Any) -> tuple[Any, int, str | None]:
    """(this device's operands, their number in all, the axis): a single one is everybody's."""
    count = jax.tree.leaves(operands)[0].shape[0]
    axis = shares.axis(name) if count > 1 else None
    return own_part(operands, axis, shares.size(name)), count, axis


def each(
    function: Callable[[Any], Any], operands: Any, axis: str | None = None, unroll: bool = False
) -> Any:
    """lax.map that stays a loop where a device has one operand only, which is chosen in the loop: a
    CPU's compiler unrolls one pass, and moves what does not depend on the pass out of a loop, into
    surroundings where it fuses and rounds otherwise. unroll: the contrary, no loop for any number
    of operands."""
    if unroll:
        return lax.scan(lambda _, x: (None, function(x)), None, operands, unroll=True)[1]
    if axis is None or jax.tree.leaves(operands)[0].shape[0] > 1 or jax.default_backend() != "cpu":
        return lax.map(function, operands)
    passes = jnp.minimum(lax.axis_index(axis) + 1, 1)  # 1, which the compiler does not know
    first = jax.tree.map(lambda x: x[0], operands)
    operands = jax.tree.map(lambda x: jnp.concatenate([x, x]), operands)
    empty = jax.tree.map(
        lambda s: jnp.zeros((2, *s.shape), s.dtype), jax.eval_shape(function, first)
    )

    def body(i: Array, found: Any) -> Any:
        operand = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), operands)
        value = function(operand)
        return jax.tree.map(lambda x, y: lax.dynamic_update_index_in_dim(x, y, i, 0), found, value)

    return jax.tree.map(lambda x: x[:1], lax.fori_loop(0, passes, body, empty))


def own_part(tree: Any, axis: str | None, parts: int) -> Any:
    """This device's contiguous share of the first axis, padded with zeros at the end to be as long
    as the others'."""
    if axis is None:
        return tree

    def part(x: Any) -> Any:
        size = -(-x.shape[0] // parts)
        x = jnp.pad(x, ((0, parts * size - x.shape[0]), *itertools.repeat((0, 0), x.ndim - 1)))
        return lax.dynamic_slice_in_dim(x, lax.axis_index(axis) * size, size)

    return jax.tree.map(part, tree)
