"""One clear line and an exit code for everything that goes wrong on the command line."""

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from distill_cli.cli.early_signals import ended_early
from distill_cli.cli.messages import no_name, one_line, unknown_option
from distill_cli.cli.quoting import with_quotes
from distill_cli.core import hosts
from distill_cli.core.host_place import SWITCH, announced, place
from distill_cli.errors import RunStopped, StorageError, UserError

# Words of a command line that computes nothing.
SHOWS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i",
         "--shell-completion", "-sc")  # fmt: skip


@contextlib.contextmanager
def exit_codes(config_name: str, several: bool = False, hydras: bool = True) -> Iterator[None]:
    """2: wrong input; 1: cannot write, or the loss broke down; 128 + signal: stopped.

    several: whether the command may run as one run over several processes; hydras: whether its
    options are those of Hydra."""
    # Hydra would print its own several lines and exit with 1; raised errors are printed below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if hydras:
        sys.argv[1:] = with_quotes(sys.argv[1:])
    try:
        if hydras and (wrong := unknown_option(sys.argv[1:])):
            raise wrong
        if not several:
            take_one_process(sys.argv[1:])
        # A table waits for its children.
        with ended_early(raising=not hydras), several_processes():
            yield
    except (HydraException, OmegaConfBaseException, KeyboardInterrupt, *MENDABLE) as error:
        found = message_and_code(error, config_name)
        if found is None:
            raise
        if getattr(error, "reported", False):  # a sweep's job said it already
            sys.exit(found[1])
        leave(*found)


def shows(words: Iterable[str]) -> bool:
    """Whether a command line only shows something."""
    return any(word.partition("=")[0] in SHOWS for word in words)


def take_one_process(words: Iterable[str]) -> None:
    """UserError under the variables of several processes, at once: the others may never start."""
    if not shows(words) and place(os.environ) is not None:
        name = announced(os.environ)
        raise UserError(
            f"{name}={os.environ[name]}: only distill, and without -m, runs on several processes; "
            f"unset it, or set {SWITCH}=off, to run in this process alone"
        )


@contextlib.contextmanager
def several_processes() -> Iterator[None]:
    """A bug in one process of a run ends the others."""
    try:
        with device_memory():
            yield
    except (ValueError, TypeError, RuntimeError) as error:
        if of_configuration(error):
            text = " ".join(str(error).split())
            raise no_name(sys.argv[1:]) or UserError(text) from error
        hosts.failed(error)
        raise
    except (HydraException, OmegaConfBaseException, *MENDABLE) as error:
        if message_and_code(error) is None:
            hosts.failed(error)
        raise
    except Exception as error:
        hosts.failed(error)
        raise


def of_configuration(error: BaseException) -> bool:
    """Whether Hydra, a plugin or Optuna raised it: they refuse typed values with plain errors."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    module = str(frames[-1].f_globals.get("__name__")) if frames else ""
    return module.partition(".")[0] in PLUGINS


BROKEN_PIPE = 128 + 13  # SIGPIPE
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
PLUGINS = ("hydra", "hydra_plugins", "optuna", "omegaconf", "submitit")
MENDABLE = (UserError, RunStopped, StorageError, OSError)


@contextlib.contextmanager
def device_memory() -> Iterator[None]:
    """One line where an accelerator's memory does not suffice, or another program holds it."""
    try:
        yield
    except MemoryError as error:
        text = " ".join(str(error).split()) or "out of memory"
        raise RunStopped(f"the machine's memory is too small: {text}", 1) from error
    except RuntimeError as error:  # JAX's own errors are such
        text = " ".join(str(error).split())
        if not re.search("RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY", text):
            raise
        wanted = re.search(r"allocat\w+ ([\d.]+ ?[KMGT]?i?B|\d+ bytes)", text)
        size = f" ({in_gib(wanted.group(1))} wanted)" if wanted else ""
        import jax

        if jax.default_backend() == "cpu":
            text = f"the machine's memory is too small{size}; lower batch.micro or the images' size"
        else:
            text = (
                f"the device's memory is taken or too small{size}; end other programs on it "
                "(nvidia-smi lists them), choose another one with CUDA_VISIBLE_DEVICES, or lower "
                "batch.micro"
            )
        raise RunStopped(text, 1) from error


def in_gib(size: str) -> str:
    """ "181269430272 bytes" as "168.8 GiB"; other sizes as they are."""
    number, _, unit = size.partition(" ")
    return f"{int(number) / 2**30:.1f} GiB" if unit == "bytes" else size


def message_and_code(error: BaseException, config_name: str = "config") -> tuple[str, int] | None:
    """What to print and the exit code; None for an error that deserves its traceback."""
    if isinstance(error, RunStopped):
        return str(error), error.code
    if isinstance(error, StorageError):
        return str(error), 1
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on", 130
    if isinstance(error, BrokenPipeError):
        text = "the program that read the output has ended; the same command goes on"
        return text, BROKEN_PIPE
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        if error.errno in UNWRITABLE and not error.filename:
            return f"cannot write the output: {error.strerror}", 1
        return error.filename and (f"cannot use {error.filename}: {error.strerror}", 2)
    hydras = isinstance(error, HydraException | OmegaConfBaseException)
    wrong = no_name(sys.argv[1:]) if hydras else None
    return str(wrong or one_line(error, config_name)), 2


@contextlib.contextmanager
def job_errors(sweep: bool) -> Iterator[None]:
    """Errors of one job: a single run ends with its message; in a sweep the other jobs go on.

    Leaving here, inside Hydra's job, keeps Hydra from adding its own lines.
    """
    try:
        with device_memory():
            yield
    except MENDABLE as error:
        found = message_and_code(error)
        if found is None:
            hosts.failed(error)
            raise
        if sweep and found[1] < 128:
            print(f"error: {found[0]}", file=sys.stderr, flush=True)
            error.reported = True  # type: ignore[union-attr]
            raise
        leave(*found)
    except Exception as error:
        hosts.failed(error)
        raise


def leave(message: str, code: int) -> None:
    """Print one line on stderr and exit."""
    label = "stopped" if code > 128 else "error"
    line = f"{label}: {' '.join(message.split()).removeprefix(f'{label} ')}"
    hosts.end_all(line, code)
    if code == BROKEN_PIPE or message.startswith("cannot write the output"):
        # Else Python complains once more when it flushes the output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(line, file=sys.stderr, flush=True)
    sys.exit(code)
