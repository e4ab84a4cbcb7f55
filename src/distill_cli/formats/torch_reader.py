"""Reading torch's .pt files without torch, and without executing anything in them.

A .pt file is a zip: <name>/data.pkl is a pickle in which tensors are calls of
torch._utils._rebuild_tensor_v2 on storages, and <name>/data/<key> holds each storage's raw bytes.
The pickle machine here knows a short list of names; every name stands for a function of this
module, never for the real one, so that a hostile file can only make it stop. Anything else is
refused before it is looked up.
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.errors import UserError

STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
RESAVE = (
    "load it in torch and save it again with torch.save(x.detach().cpu(), ...), torch 1.6 or newer"
)
MOST_BYTES = 8 << 30


class Refused(pickle.UnpicklingError):
    """A name that is not on the list, or arguments that do not fit it."""


class Standin:
    """A function in place of a name in the pickle. Has no state that a file could set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused(f"sets {name}")

    def __setstate__(self, state: Any) -> None:
        raise Refused("sets the state of a function")


class ScalarType:
    """numpy.dtype of a scalar; the state that NumPy pickles with it only repeats the byte order."""

    __slots__ = ("dtype", "order")

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"):
            raise Refused(f"numpy.dtype {name!r:.40}")
        self.dtype, self.order = str(name), "<"

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=")):
            raise Refused("the state of a numpy.dtype")
        self.order = state[1]


class Storage:
    """Raw bytes of one storage as a flat array."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


def read_torch(path: Path) -> Any:
    """The object in a .pt file: dicts, lists, tuples, strings, numbers, tensors as NumPy arrays.

    Raises UserError for another file type, a damaged file, and any content beyond those.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            # torch stores its members as they are; a compressed one could unfold to any size.
            packed = any(info.compress_type for info in archive.infolist())
            if len(pickles) != 1 or packed:
                raise UserError(f"coreset={path}: a zip, but not one that torch.save wrote")
            root = pickles[0].removesuffix("data.pkl")
            return _Machine(archive, root).load()
    except zipfile.BadZipFile:
        head = path.read_bytes()[:2]
        kind = (
            "in torch's format before 1.6, a bare pickle" if head[:1] == b"\x80" else "no .pt file"
        )
        raise UserError(f"coreset={path}: {kind}, which is never loaded; {RESAVE}") from None
    except Refused as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"coreset={path}: refused, nothing was executed: its pickle {reason}; {RESAVE}"
        ) from None
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises every kind there is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"coreset={path}: not a readable .pt file ({reason:.120})") from None


class _Machine(pickle.Unpickler):
    """Python's pickle machine with every look-up answered from the list below."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive, self._root = archive, root
        self._storages: dict[str, Storage] = {}
        names = archive.namelist()
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        self._order = ">" if order.strip() == b"big" else "<"
        super().__init__(archive.open(f"{root}data.pkl"))

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) not in _ALLOWED:
            raise Refused(f"asks for {module}.{name}, which is not a plain tensor or number")
        return Standin(_ALLOWED[module, name])

    def persistent_load(self, pid: Any) -> Storage:
        """("storage", type, key, device, number of elements)."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise Refused("refers to something that is no tensor storage")
        _, kind, key, _, count = pid
        if kind not in STORAGES.values() or not isinstance(key, str) or not key.isalnum():
            raise Refused("has a tensor storage of an unknown type")
        if key not in self._storages:
            dtype = np.dtype(f"{self._order}{kind}")
            info = self._archive.getinfo(f"{self._root}data/{key}")
            wrong = not isinstance(count, int) or info.file_size != count * dtype.itemsize
            if wrong or info.file_size > MOST_BYTES:
                raise Refused(f"has a tensor storage {key} of the wrong size")
            self._storages[key] = Storage(np.frombuffer(self._archive.read(info), dtype))
        return self._storages[key]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])."""
    numbers = (offset, *size, *stride)
    fits = isinstance(storage, Storage) and len(size) == len(stride) <= 16
    if not fits or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
        raise Refused("describes a tensor that cannot be")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, values.dtype)
    # Steps of 0 repeat a value; more elements than stored ones is a bomb, not a coreset.
    if last >= len(values) or np.prod(size, dtype=float) > max(len(values), 1):
        raise Refused("describes a tensor beyond its storage")
    item = values.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        values[offset:], size, [step * item for step in stride], writeable=False
    )
    return np.array(view, dtype=view.dtype.str.lstrip("<>"))


def _number(kind: Any, data: Any = b"") -> Any:
    """numpy.core.multiarray.scalar(dtype, bytes) as a Python number."""
    if not isinstance(kind, ScalarType) or not isinstance(data, bytes):
        raise Refused("has a NumPy scalar of an unknown type")
    return np.frombuffer(data, np.dtype(f"{kind.order}{kind.dtype}"), 1)[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """_codecs.encode(text, "latin1"), how old pickles spell bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("encodes something that is no text")
    return text.encode("latin1")


def _mapping(*pairs: Any) -> dict[Any, Any]:
    return dict(*pairs)


def _parameter(data: Any, *_: Any) -> Any:
    return data


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _mapping,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): ScalarType,
    ("_codecs", "encode"): _encode,
}
