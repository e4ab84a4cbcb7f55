"""The devices a run computes on: `devices=auto|1|4`, for JAX's own mesh and shard_map.

One choice per process, made before the first array (tasks/runtime.py): methods, kernels and
protocols that share out work ask `chosen()` for it. On a CPU a device is what JAX calls one (one in
all, unless XLA_FLAGS or jax_num_cpu_devices make more). Of several processes (core/hosts.py) each
has devices of its own; `chosen()` are those of all, `local()` those of this one.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from distill_cli.core import hosts
from distill_cli.errors import UserError

AUTO = "auto"  # every device that JAX sees
T = TypeVar("T")
Device = Any  # jax.Device, which type checkers do not take for a type
_chosen: tuple[Device, ...] | None = None


def choose(wanted: str = AUTO) -> tuple[Device, ...]:
    """Make the choice of this process; UserError where there are fewer devices than asked for.

    In a run of several processes the number counts the devices of all, and each process gives the
    same share of it.
    """
    global _chosen
    available = jax.devices()
    number = len(available) if wanted == AUTO else int(wanted)
    kind, processes = available[0].device_kind, hosts.count()
    hosts.compare("devices", {"devices": f"{jax.local_device_count()} x {kind}"})
    if number > len(available):
        raise UserError(
            f"devices={wanted}: only {len(available)} available ({kind}); "
            f"give auto or at most {len(available)}"
        )
    if number % processes:
        raise UserError(
            f"devices={wanted}: must be a multiple of the number of processes, {processes}, each "
            "of which gives as many"
        )
    if processes == 1:
        _chosen = tuple(available[:number])
        return _chosen
    _chosen = tuple(
        device
        for process in range(processes)
        for device in [d for d in available if d.process_index == process][: number // processes]
    )
    return _chosen


def chosen() -> tuple[Device, ...]:
    """The devices of the last `choose`; all of them where nobody chose."""
    return tuple(jax.devices()) if _chosen is None else _chosen


def local() -> tuple[Device, ...]:
    """Those of the chosen devices that belong to this process."""
    return tuple(device for device in chosen() if device.process_index == jax.process_index())


def keep_local() -> None:
    """From here on this process computes by itself: `chosen` gives its own devices only."""
    global _chosen
    _chosen = local()


def row(axis: str = "devices") -> Mesh:
    """A mesh of the chosen devices in one row."""
    return jax.make_mesh((len(chosen()),), (axis,), devices=chosen(), axis_types=(AxisType.Auto,))


def on_all(tree: T) -> T:
    """The arrays copied to every chosen device once, so that no call has to do it; as they are
    where there is only one. Of several processes each copies its own, which are equal."""
    if len(chosen()) == 1:
        return tree
    everywhere = NamedSharding(row(), P())
    if hosts.count() == 1:
        return jax.device_put(tree, everywhere)

    def one(array: Any) -> Any:
        if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            data = one(jax.random.key_data(array))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
        # device_put would compare whole arrays between the processes first.
        values = np.asarray(array)
        return jax.make_array_from_callback(values.shape, everywhere, lambda rows: values[rows])

    return jax.tree.map(one, tree)
