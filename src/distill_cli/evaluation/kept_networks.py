"""Finished networks of a long measurement on disk: a stopped measurement goes on with the next one.

One file for each architecture of a protocol, named by a digest of everything that decides its
networks. A line of it is a CRC-32 and the JSON of one network. Lines are only ever appended, so
that a kill loses the network that is being trained; a line that is cut off or damaged ends what is
read.
"""

import functools
import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from distill_cli.core.fingerprint import code_of
from distill_cli.core.sharing import Tell
from distill_cli.kernels.exact.kept import digest

LEAST = 5.0  # seconds of a network that is worth keeping
log = logging.getLogger(__name__)


class Tested(NamedTuple):
    """What a trained network leaves: the classes that it gives the test images, and what else is
    recorded of it, as JSON."""

    guesses: Int[np.ndarray, " n"]
    facts: dict[str, Any]


Work = Callable[[int, Tell], Tested]


def kept_networks(work: Work, folder: Path | None, protocol: str, *parts: object) -> Work:
    """`work` for core.sharing.share_out, which trains and tests network `index`, with its finished
    networks kept in `folder`; with folder=None it stays as it is.

    parts: arrays and other values (their repr counts) that decide the networks; the protocol's
    code, JAX and the device count as well. Where the disk refuses, training goes on without.
    """
    if folder is None:
        return work
    lock = threading.Lock()

    @functools.cache
    def file() -> Path:
        code = code_of([f"evaluation.{protocol}"])
        device = jax.devices()[0].device_kind
        # An array of jax has a repr that leaves numbers out.
        held = [np.asarray(part) if isinstance(part, jax.Array) else part for part in parts]
        name = digest([jax.__version__, device, protocol, code, *held])
        return folder / f"{name}.networks"

    # The digest takes a hash of all images: only where something may be there.
    former = dict(read(file())) if any(folder.glob("*.networks")) else {}

    def trained(index: int, tell: Tell) -> Tested:
        if index in former:
            tell(1.0)
            return former[index]
        begun = time.monotonic()
        found = work(index, tell)
        if time.monotonic() - begun > LEAST:
            with lock:
                append(file(), index, found)
        return found

    return trained


def read(file: Path) -> Iterator[tuple[int, Tested]]:
    """(index, network) of every sound line; the first damaged one, and what follows, is cut off."""
    if not file.is_file():
        return
    sound = 0
    with file.open("r+b") as lines:
        for line in lines:
            check, _, text = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or check != checksum(text):
                break
            row = json.loads(text)
            yield row["index"], Tested(np.asarray(row["guesses"], np.int64), row["facts"])
            sound += len(line)
        lines.truncate(sound)


def append(file: Path, index: int, found: Tested) -> None:
    """Add a line; a warning where the disk refuses."""
    row = {"index": index, "guesses": found.guesses.tolist(), "facts": found.facts}
    text = json.dumps(row, separators=(",", ":")).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as lines:
            lines.write(checksum(text) + b" " + text + b"\n")
    except OSError as error:
        log.warning("%s: finished networks are not kept (%s)", file, error.strerror or error)


def checksum(text: bytes) -> bytes:
    """CRC-32 in eight hex digits."""
    return f"{zlib.crc32(text):08x}".encode()
