"""How the processes of one run end where one of them fails, is stopped or is lost.

A process that ends early says so under one key of the coordination service; a thread in each other
process waits for it and ends that process with the same exit code, without a line of its own. A
process that is lost says nothing: collectives with it fail, or JAX's heartbeats stop and JAX aborts
this process from C++ (host_output.py catches that).
"""

import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

from distill_cli.core.host_output import Output
from distill_cli.core.host_place import START_SECONDS, Place
from distill_cli.core.hosts import service

END = "distill/end"
SETTLE_SECONDS = 10.0  # for the others to read why, before the service ends with process 0
LOST = re.compile(
    r"[Gg]loo|NCCL|nccl|coordination|[Hh]eartbeat|UNAVAILABLE|[Cc]onnection (closed|reset)"
    r"|Socket closed|DEADLINE_EXCEEDED"
)
_output: Output | None = None
_over = threading.Event()  # this process is on its way out
_unsaid = threading.Event()  # it is, and nobody has said why yet
_line = threading.Lock()  # taken by whoever says it; several threads may notice at once
_exit_code = 1  # what this process ends with, also where the abort overtakes it
_watcher: threading.Thread | None = None
_phase = "start"


def watch_output(here: Place) -> None:
    """Take over the descriptors 1 and 2, and the abort of C++."""
    global _output
    _output = output = Output()
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)

    def aborted() -> NoReturn:
        if (not _over.is_set() or _unsaid.is_set()) and _line.acquire(blocking=False):
            _over.set()
            output.say(lost_line(here) if _phase == "run" else start_line(here))
        os._exit(_exit_code)

    output.catch_abort(aborted)


def lost_line(here: Place) -> str:
    """What a survivor says."""
    return (
        f"error: {here.name}: another process was lost, or its host was; the same command, on any "
        "number of processes, goes on from the last checkpoint"
    )


def start_line(here: Place) -> str:
    """What a process says that waited for the others in vain."""
    missing = f"not all of the {here.count} processes came" if here.index == 0 else (
        "the coordinator was not reached"
    )  # fmt: skip
    where = f" at {here.address}" if here.address else ""
    return (
        f"error: {here.name}: {missing}{where} in {here.start_seconds} s; the same command has to "
        f"run in every process ({START_SECONDS} sets the time)"
    )


def connect(here: Place) -> None:
    """jax.distributed.initialize; ends the process where the others do not come in time."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # SIGTERM is this program's own business (train/signals.py).
    with contextlib.suppress(AttributeError):
        jax.config.update("jax_enable_preemption_service", False)
    more: dict[str, Any] = {} if here.address is not None else {"cluster_detection_method": "slurm"}
    if here.address is not None and here.local_ids is None:
        more = {"cluster_detection_method": "deactivate"}
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)  # C++ would not let Python have it
    try:
        jax.distributed.initialize(
            here.address, here.count, here.index,
            local_device_ids=here.local_ids and list(here.local_ids),
            initialization_timeout=here.start_seconds,
            heartbeat_timeout_seconds=here.heartbeat_seconds, **more,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, former)


def watch_others(here: Place) -> None:
    """Start the thread that ends this process when another one says that it ends."""
    global _phase
    _phase = "run"

    def watch() -> None:
        while not _over.is_set():
            if _output is not None:
                _output.relay()
            try:
                said = service().blocking_key_value_get(END, 2000)
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    time.sleep(2)  # the service is gone: JAX says so to all
                continue
            code = json.loads(said)["code"]
            if not _over.is_set() and code:
                _over.set()
                exit_with(here, code)
            return

    global _watcher
    _watcher = threading.Thread(target=watch, name="distill-hosts", daemon=True)
    _watcher.start()


def exit_with(here: Place, code: int) -> NoReturn:
    """Leave at once, having said that this process knows; process 0 waits for the others."""
    global _exit_code
    _exit_code = code
    with contextlib.suppress(Exception):
        service().key_value_set(f"{END}/known/{here.index}", "")
        end = time.monotonic() + SETTLE_SECONDS
        while here.index == 0 and time.monotonic() < end:
            if len(service().key_value_dir_get(f"{END}/known/")) >= here.count:
                break
            time.sleep(0.05)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def claim(here: Place, code: int) -> bool:
    """Whether this process is the one to say why all end; process 0 comes before the others."""
    client = service()
    if here.index > 0:
        with contextlib.suppress(Exception):
            client.blocking_key_value_get(END, 3000)
            return False
    try:
        client.key_value_set(END, json.dumps({"code": code, "by": here.index}))
    except Exception:
        return "ALREADY_EXISTS" not in str(sys.exc_info()[1])
    return True


def end_all(here: Place, line: str, code: int) -> NoReturn:
    """End every process with an exit code; the line is printed once among them."""
    global _exit_code
    mine, _exit_code = not _over.is_set(), code
    if mine:
        _unsaid.set()
    _over.set()
    if mine and claim(here, code) and _line.acquire(blocking=False):
        prefix = "" if here.index == 0 else f"{here.name}: "
        label, _, text = line.partition(": ")
        print(f"{label}: {prefix}{text}", file=sys.stderr, flush=True)
        _unsaid.clear()
    else:
        _unsaid.clear()
        with contextlib.suppress(Exception):
            code = json.loads(service().blocking_key_value_get(END, 1000))["code"]
    exit_with(here, code)


def failed(here: Place, error: BaseException) -> NoReturn:
    """End for an error without a line of its own: another process was lost, or a bug."""
    if LOST.search(str(error)):
        # A process that ends on purpose has said so before its connections broke.
        time.sleep(2)
        if not _over.is_set() and _line.acquire(blocking=False):
            _over.set()
            if _output is not None:
                _output.say(lost_line(here))
            os._exit(1)
        time.sleep(SETTLE_SECONDS)  # the thread is ending this process
        os._exit(1)
    _over.set()
    traceback.print_exception(error)
    with contextlib.suppress(Exception):
        claim(here, 1)
    exit_with(here, 1)


def finish() -> None:
    """The run is over in every process: part from the others."""
    import jax

    with contextlib.suppress(Exception):  # another process may have said it
        service().key_value_set(END, json.dumps({"code": 0}))
    if _watcher is not None:  # a thread inside C++ would abort the interpreter's end
        _watcher.join(SETTLE_SECONDS)
    _over.set()
    jax.distributed.shutdown()
    if _output is not None:
        _output.relay()
        _output.give_back()
