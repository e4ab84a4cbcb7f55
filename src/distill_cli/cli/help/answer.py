"""Which words of a command line ask for help or the version, and the answer on standard output."""

import os
import sys
from collections.abc import Sequence

from distill_cli.core.host_place import place
from distill_cli.errors import UserError
from distill_cli.version import __version__

HELP = ("--help", "-h")
VERSION = "--version"


def answered(command: str, words: Sequence[str]) -> bool:
    """Whether the words ask for --version, --help or `help KEY ...`; if so it is printed.

    Wrong words behind `help` end the program with one line and exit code 2. Of several processes
    of one run the first prints. A reader that ends early (`| head`) is no error.
    """
    asked = VERSION in words or set(HELP) & set(words) or words[:1] == ["help"]
    if not asked:
        return False
    try:
        here = place(os.environ)
        if here is None or not here.index:
            show(text_for(command, words))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(2)
    return True


def text_for(command: str, words: Sequence[str]) -> str:
    """The text that is asked for."""
    if VERSION in words:
        return f"{command} {__version__}\n"
    from distill_cli.cli.help.overview import overview

    subjects = [word for word in words[1:] if word not in HELP] if words[0] == "help" else []
    if not subjects:
        return overview(command, [w for w in words if w not in HELP and w != "help"])
    from distill_cli.cli.help.subject import answer

    return "\n".join(answer(command, subject) for subject in dict.fromkeys(subjects))


def show(text: str) -> None:
    """Print it; silence where the reader has enough. Ends the program with one line and exit code
    1 where the output cannot be written."""
    if sys.stdout is None:  # closed by the shell
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:  # else Python complains once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        print(f"error: cannot write the output: {error.strerror}", file=sys.stderr, flush=True)
        sys.exit(1)
