"""The devices a run computes on: `devices=auto|1|4`, for JAX's own mesh and shard_map.

One choice per process, made before the first array (tasks/runtime.py): methods, kernels and
protocols that share out work ask `chosen()` for it. On a CPU a device is what JAX calls one (one in
all, unless XLA_FLAGS or jax_num_cpu_devices make more).
"""

from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from distill_cli.errors import UserError

AUTO = "auto"  # every device that JAX sees
T = TypeVar("T")
_chosen: tuple[jax.Device, ...] | None = None


def choose(wanted: str = AUTO) -> tuple[jax.Device, ...]:
    """Make the choice of this process; UserError where there are fewer devices than asked for."""
    global _chosen
    available = jax.devices()
    if wanted != AUTO and int(wanted) > len(available):
        kind = available[0].device_kind
        raise UserError(
            f"devices={wanted}: only {len(available)} available ({kind}); "
            f"give auto or at most {len(available)}"
        )
    _chosen = tuple(available if wanted == AUTO else available[: int(wanted)])
    return _chosen


def chosen() -> tuple[jax.Device, ...]:
    """The devices of the last `choose`; all of them where nobody chose."""
    return tuple(jax.devices()) if _chosen is None else _chosen


def row(axis: str = "devices") -> Mesh:
    """A mesh of the chosen devices in one row."""
    return jax.make_mesh((len(chosen()),), (axis,), devices=chosen(), axis_types=(AxisType.Auto,))


def on_all(tree: T) -> T:
    """The arrays copied to every chosen device once, so that no call has to do it; as they are
    where there is only one."""
    if len(chosen()) == 1:
        return tree
    return jax.device_put(tree, NamedSharding(row(), P()))
