"""Finished tiles of a long kernel matrix on disk: a stopped computation goes on from them.

One file for each matrix, named by a digest of everything that decides its bits, of records of equal
length: start row, start column, CRC-32, then the tile of every kernel. Records are only ever
appended, so that a kill loses what was not written yet, and a record that is cut off or damaged
ends what is read.
"""

import functools
import hashlib
import logging
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from distill_cli.core import devices
from distill_cli.core.fingerprint import code_of

EVERY = 20.0  # seconds between two writes: short computations leave nothing behind
HEAD = struct.Struct("<qqI")
Tile = dict[str, np.ndarray]
log = logging.getLogger(__name__)


def digest(parts: Iterable[object]) -> str:
    """Sixteen hex digits over arrays (shape, type, content) and other values (their repr)."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(repr((part.shape, part.dtype.str)).encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            found.update(repr(part).encode())
    return found.hexdigest()[:16]


class KeptTiles:
    """The tiles of one matrix in a folder; with folder=None nothing is read or written.

    names: the kernels; shape, dtype: of every tile; label: the file's name, asked for only where
    there is something to read or write, because it takes a digest of all images.
    """

    def __init__(
        self, folder: Path | None, names: tuple[str, ...], shape: tuple[int, int],
        dtype: np.dtype, label: Callable[[], str],
    ) -> None:  # fmt: skip
        self._folder, self._names, self._shape = folder, names, shape
        self._label = functools.cache(label)
        self._dtype = np.dtype(dtype)
        self._size = int(np.prod(shape)) * self._dtype.itemsize
        self._waiting: list[bytes] = []
        self._written = time.monotonic()
        # Whether anything is on disk.
        self.begun = folder is not None and folder.is_dir() and self._file.is_file()

    @property
    def _file(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._label()}.tiles"

    def read(self) -> Iterator[tuple[tuple[int, int], Tile]]:
        """((start row, start column), blocks) of every sound record; what follows the first
        damaged one is cut off the file."""
        if not self.begun:
            return
        length, sound = HEAD.size + self._size * len(self._names), 0
        with self._file.open("r+b") as file:
            while len(record := file.read(length)) == length:
                i, j, check = HEAD.unpack_from(record)
                body = record[HEAD.size :]
                if zlib.crc32(body, zlib.crc32(record[:16])) != check:
                    break
                flat = np.frombuffer(body, self._dtype).reshape(-1, *self._shape)
                yield (i, j), dict(zip(self._names, flat, strict=True))
                sound += length
            file.truncate(sound)

    def add(self, start: tuple[int, int], blocks: Tile) -> None:
        """Take a finished tile; written with others from time to time."""
        if self._folder is None:
            return
        ordered = [np.asarray(blocks[name], self._dtype) for name in self._names]
        if any(block.shape != self._shape for block in ordered):
            raise ValueError(f"tiles of {[b.shape for b in ordered]}, expected {self._shape}")
        body = b"".join(block.tobytes() for block in ordered)
        place = struct.pack("<qq", *start)
        self._waiting += [place, struct.pack("<I", zlib.crc32(body, zlib.crc32(place))), body]
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        """Append what waits. Where the disk refuses, the computation goes on without."""
        if self._folder is None or not self._waiting:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(b"".join(self._waiting))
            self.begun = True
        except OSError as error:
            log.warning("%s: finished tiles are not kept (%s)", self._file, error.strerror or error)
            self._folder = None
        self._waiting, self._written = [], time.monotonic()


def kept_tiles(
    folder: Path | None, names: tuple[str, ...], shape: tuple[int, int], dtype: np.dtype,
    *parts: object,
) -> KeptTiles:  # fmt: skip
    """The tiles in `folder` of the matrix that `parts` decide, with this code, JAX and device."""

    def label() -> str:
        device = jax.devices()[0].device_kind, len(devices.chosen())
        about = jax.__version__, device, code_of(["kernels.exact.gram"]), names, shape, str(dtype)
        return digest([*about, *parts])

    return KeptTiles(folder, names, shape, dtype, label)
