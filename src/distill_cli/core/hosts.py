"""Several processes, on one host or on many, that make one run together: jax.distributed.

The same command runs in every process; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID, or Slurm's variables, say which one this is. Without them `count()` is 1 and nothing
here imports jax. Process 0 decides and writes; the others compute with it. Values are exchanged
through the coordination service of JAX (a key-value store in process 0), arrays through
collectives. core/host_failures.py ends all processes where one of them fails.
"""

import itertools
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from distill_cli.core.host_place import ADDRESS, COUNT, START_SECONDS, Place, place
from distill_cli.errors import UserError
from distill_cli.version import __version__

DONE = "distill/done"  # set by process 0 when nothing is left
T = TypeVar("T")
_here: Place | None = None  # set once the processes are connected
_serial = itertools.count()  # every exchange has a key of its own


def count() -> int:
    """Processes of this run; 1 where there is no other."""
    return 1 if _here is None else _here.count


def index() -> int:
    """Number of this process, from 0."""
    return 0 if _here is None else _here.index


def first() -> bool:
    """Whether this process is the one that decides, writes and speaks."""
    return index() == 0


def start() -> None:
    """Connect the processes, or do nothing where there is one; before the first array of jax.

    Raises UserError where that fails or where the processes run different versions.
    """
    global _here
    here = place(os.environ)
    if here is None:
        return
    from distill_cli.core import host_failures

    if not sys.platform.startswith("linux"):
        raise UserError(f"{COUNT}={here.count}: several processes need Linux; unset it")
    host_failures.watch_output(here)
    if here.address is not None:
        check_reachable(here)
    host_failures.connect(here)
    _here = here
    host_failures.watch_others(here)
    compare("versions", versions())


def finish() -> None:
    """Part from the other processes at the end of a run that went well."""
    if _here is None:
        return
    from distill_cli.core import host_failures

    if _here.index == 0:
        service().key_value_set(DONE, "")
    wait_for(DONE)
    host_failures.finish()


def end_all(line: str, code: int) -> None:
    """End all processes of the run: the line, once among them, and the exit code. Does nothing
    where there is one process."""
    if _here is not None:
        from distill_cli.core import host_failures

        host_failures.end_all(_here, line, code)


def lost(error: BaseException) -> bool:
    """Whether the error says that another process of this run is gone."""
    if _here is None:
        return False
    from distill_cli.core import host_failures

    return bool(host_failures.LOST.search(str(error)))


def failed(error: BaseException) -> None:
    """End all processes for an error that has no line of its own. Does nothing where there is one
    process."""
    if _here is not None:
        from distill_cli.core import host_failures

        host_failures.failed(_here, error)


def check_reachable(here: Place) -> None:
    """UserError where the port is taken (process 0), or nobody listens there within the time."""
    import time

    host, _, port = str(here.address).rpartition(":")
    host = host.strip("[]")
    if here.index == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("", int(port)))
            except OSError as error:
                raise UserError(
                    f"{ADDRESS}={here.address}: process 0 cannot listen there ({error.strerror})"
                ) from error
        return
    end = time.monotonic() + here.start_seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"{ADDRESS}={here.address}: not reached in {here.start_seconds} s from "
                    f"{here.name} ({error.strerror or error}); {START_SECONDS} sets the time"
                ) from error
            time.sleep(0.2)


def versions() -> dict[str, str]:
    """What must be equal in all processes before anything is computed."""
    from importlib.metadata import PackageNotFoundError, version

    import jax

    found = {
        "distill_cli": __version__, "jax": jax.__version__, "jaxlib": version("jaxlib"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", ""),
    }  # fmt: skip
    for name in ("jax-cuda12-plugin", "jax-cuda13-plugin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def service() -> Any:
    """The client of JAX's coordination service."""
    from jax._src.distributed import global_state  # as Orbax reaches it

    return global_state.client


def gather(value: Any) -> list[Any]:
    """The JSON values of all processes, in their order; every process calls it, at one place."""
    if _here is None:
        return [value]
    key = f"distill/{next(_serial)}"
    service().key_value_set(f"{key}/{_here.index}", json.dumps(value))
    return [json.loads(wait_for(f"{key}/{k}")) for k in range(_here.count)]


def told(value: T) -> T:
    """Process 0's JSON value; what the others pass does not count."""
    if _here is None:
        return value
    key = f"distill/{next(_serial)}"
    if _here.index == 0:
        service().key_value_set(key, json.dumps(value))
        return value
    return json.loads(wait_for(key))


def wait_for(key: str, between: Callable[[], None] = lambda: None) -> str:
    """The value of a key, however long that takes; a process that fails ends the wait. `between`
    is called about once a second."""
    while True:
        between()
        try:
            # Short, because signals reach Python between two calls only.
            return service().blocking_key_value_get(key, 1000)
        except Exception as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def compare(what: str, values: Mapping[str, Any]) -> None:
    """UserError in every process where a value differs between them, naming the first that does."""
    if _here is None:
        return
    found = gather({"host": socket.gethostname(), "values": dict(values)})
    for other, row in enumerate(found[1:], 1):
        for key in {**found[0]["values"], **row["values"]}:
            one, two = found[0]["values"].get(key), row["values"].get(key)
            if one != two:
                raise UserError(
                    f"mixed {what} between hosts: {key} is {one} at process 0 "
                    f"({found[0]['host']}) and {two} at process {other} ({row['host']})"
                )


def agree(numbers: Sequence[int]) -> Any:
    """(processes, n) int64: the numbers of all processes, by one small collective."""
    import numpy as np

    own = np.asarray(numbers, np.int64)
    if _here is None:
        return own[None]
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(own))


def share(tree: T) -> T:
    """Process 0's NumPy arrays in every process, bit for bit; shapes and types are equal there."""
    if _here is None:
        return tree
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    def one(array: Any) -> Any:
        shape, array = np.shape(array), np.ascontiguousarray(array)  # which makes () to (1,)
        if not array.size:
            return array.reshape(shape)
        # As bytes: what JAX sums with zeros would turn -0.0 into 0.0.
        sent = broadcast_one_to_all(array.reshape(-1).view(np.uint8))
        return np.asarray(sent).view(array.dtype).reshape(shape)

    return jax.tree.map(one, tree)
