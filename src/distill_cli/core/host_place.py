"""Which of several processes this one is, from environment variables. Imports no jax.

JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say it plainly; in a task of srun
Slurm's variables do.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from distill_cli.errors import UserError

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# Set by srun in each of its tasks; sbatch and salloc alone do not set all of them.
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID",
         "SLURM_LOCALID")  # fmt: skip
SWITCH = "DISTILL_HOSTS"  # off: this process is on its own, whatever the other variables say
START_SECONDS = "DISTILL_START_SECONDS"
HEARTBEAT_SECONDS = "DISTILL_HEARTBEAT_SECONDS"


@dataclass(frozen=True)
class Place:
    """Which process this is: `index` of `count`; address: host:port of the coordination service,
    None where JAX finds it from Slurm; local_ids: the devices of this host that are this process's,
    None for all that it sees."""

    index: int
    count: int
    address: str | None
    local_ids: tuple[int, ...] | None = None
    start_seconds: int = 60
    heartbeat_seconds: int = 20

    @property
    def name(self) -> str:
        """As error messages call it."""
        return f"process {self.index} of {self.count} ({socket.gethostname()})"


def place(given: Mapping[str, str]) -> Place | None:
    """The place that environment variables give this process; None where it is on its own.

    Raises UserError for variables that are half given, unreadable or contradict each other.
    """
    if given.get(SWITCH, "") == "off":
        return None
    if given.get(SWITCH, "") not in ("", "on"):
        raise UserError(f"{SWITCH}={given[SWITCH]}: must be on or off")
    seconds = {
        "start_seconds": whole(given, START_SECONDS, 1, 60),
        "heartbeat_seconds": whole(given, HEARTBEAT_SECONDS, 1, 20),
    }
    slurm = all(name in given for name in SLURM) and whole(given, SLURM[2], 1) > 1
    typed = [name for name in (ADDRESS, COUNT, INDEX) if name in given]
    if slurm and typed in ([], [ADDRESS]):
        count = whole(given, SLURM[2], 1)
        index = whole(given, SLURM[3], 0)
        if index >= count:
            raise UserError(f"{SLURM[3]}={index}: {SLURM[2]} is {count}")
        address = checked_address(given[ADDRESS]) if typed else None
        return Place(index, count, address, slurm_devices(given), **seconds)
    if not typed:
        return None
    if COUNT in given and whole(given, COUNT, 1) == 1:
        return None
    if missing := [name for name in (ADDRESS, COUNT, INDEX) if name not in given]:
        raise UserError(
            f"{missing[0]}: missing beside {' and '.join(typed)}; several processes "
            f"need {ADDRESS}, {COUNT} and {INDEX}, one process none"
        )
    count, index = whole(given, COUNT, 1), whole(given, INDEX, 0)
    if index >= count:
        raise UserError(f"{INDEX}={index}: must be below {COUNT}={count}")
    return Place(index, count, checked_address(given[ADDRESS]), None, **seconds)


def announced(given: Mapping[str, str]) -> str:
    """The variable that makes this process one of several, where `place` finds it to be."""
    return next(name for name in (ADDRESS, COUNT, INDEX, SLURM[2]) if name in given)


def whole(given: Mapping[str, str], name: str, low: int, default: int | None = None) -> int:
    """A variable as a whole number of at least `low`."""
    text = given.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.strip().isdecimal() or int(text) < low:
        raise UserError(f"{name}={text}: must be a whole number of at least {low}")
    return int(text)


def checked_address(text: str) -> str:
    """host:port, or UserError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"{ADDRESS}={text}: must be host:port, e.g. node1:7654")
    return text


def slurm_devices(given: Mapping[str, str]) -> tuple[int, ...] | None:
    """The devices of a task of Slurm: all that it sees where it is alone on its host or where Slurm
    bound one to it; else None, which JAX reads as the one with the number of the task."""
    seen = given.get("CUDA_VISIBLE_DEVICES", "")
    number = len(seen.split(",")) if seen else whole(given, "SLURM_GPUS_ON_NODE", 1, 1)
    alone = given.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] == "1"
    return tuple(range(number)) if alone or (seen and number == 1) else None
