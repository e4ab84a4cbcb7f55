"""What C++ writes in a run of several processes: noise is dropped, the rest arrives; its abort."""

import signal
import subprocess
import sys

import pytest

# As jaxlib 0.10 writes it in a process that stays, where the heartbeats of process 3 stop.
LOST = """\
E1127 13:59:12.000001 77 coordination_service_agent.cc:341] Polled an error from the service
The following tasks are unhealthy (stopped sending heartbeats):
3
The tasks have crashed. Check the task logs for an earlier error, or scheduler events.

RPC: /xla.coordination.CoordinationService/PollForError [type.googleapis.com/tensorflow.x='']
"""
FATAL = """\
F1127 13:59:12.000002 77 client.h:88] Terminating process because the JAX distributed service \
detected fatal errors. This most likely indicates that another task died.
Additional GRPC error information from remote target coordination_service while calling /x.y:
:UNKNOWN:Error received from peer  {grpc_message:"Socket closed", grpc_status:14}
"""
STACK = """\
*** Check failure stack trace: ***
    @     0x7f57d2140634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""
OTHER = "E1127 13:59:13.000001 78 gemm.cc:12] 3 of 4 algorithms failed\n"


def child(*statements: str) -> subprocess.CompletedProcess:
    """A process that made an Output; write(text) is what C++ does."""
    begun = (
        "import os", "from distill_cli.core.host_output import Output", "output = Output()",
        "write = lambda text: os.write(2, text.encode())",
    )  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", "\n".join([*begun, *statements])], capture_output=True, text=True
    )


@pytest.mark.process
def test_messages_about_lost_processes_are_dropped_and_others_arrive():
    done = child(
        f"write({LOST + OTHER!r})", "output.relay()", f"write({OTHER!r})", "output.relay()"
    )
    assert done.stderr == 2 * OTHER and done.returncode == 0


@pytest.mark.process
def test_python_writes_to_the_terminal_all_the_time():
    done = child(
        "import sys", "print('out')", "print('err', file=sys.stderr)", "output.say('a  b')"
    )
    assert (done.stdout, done.stderr) == ("out\n", "err\na b\n")


@pytest.mark.process
def test_the_abort_of_jax_runs_the_action_and_another_one_is_shown():
    caught = "output.catch_abort(lambda: (output.say('lost'), os._exit(7)))"
    said = (LOST + FATAL + STACK).splitlines(True)
    for read in range(len(said) + 1):  # what was read before
        first, rest = "".join(said[:read]), "".join(said[read:])
        relayed = (f"write({first!r})", "output.relay()", f"write({rest!r})")
        done = child(caught, *relayed, "os.abort()")
        assert (done.returncode, done.stderr) == (7, "lost\n")
    for relayed in ("", "output.relay()"):
        done = child(caught, f"write({OTHER + STACK!r})", relayed, "os.abort()")
        assert done.returncode == -signal.SIGABRT and OTHER + STACK in done.stderr


@pytest.mark.process
def test_afterwards_the_descriptors_and_the_abort_are_the_systems():
    done = child(
        "output.catch_abort(lambda: os._exit(7))", "output.give_back()", f"write({FATAL!r})",
        "os.abort()",
    )  # fmt: skip
    assert done.returncode == -signal.SIGABRT and done.stderr == FATAL
