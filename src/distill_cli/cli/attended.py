"""python -m distill_cli.cli.attended PROGRAM ARGUMENTS: a command that ends with its starter.

Standard input is a pipe whose other end the starter holds. When the starter dies, even by
kill -9, the pipe closes; the command then gets the SIGTERM that makes a run save its state.
"""

import importlib
import os
import signal
import sys
import threading

MODULES = {"distill": "distill", "distill-evaluate": "evaluate", "distill-theory": "theory"}
MODULES |= {"distill-apply": "apply"}


def main() -> None:
    """Run the program named first with the arguments behind it."""
    program, *arguments = sys.argv[1:]
    threading.Thread(target=end_with_starter, daemon=True).start()
    module = importlib.import_module(f"distill_cli.cli.{MODULES[program]}")
    sys.argv = [program, *arguments]
    module.main()


def end_with_starter() -> None:
    """Wait until the pipe closes, then ask this process to stop."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
