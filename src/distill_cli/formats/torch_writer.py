"""Writing torch's .pt files without torch, loadable with torch.load(path, weights_only=True).

The layout that torch.save has used since 1.6: a stored (uncompressed) zip with <name>/data.pkl, one
raw little-endian file per tensor in <name>/data/, <name>/byteorder and <name>/version. The pickle
is spelled out opcode by opcode because Python's own pickler would have to import torch.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

STORAGE = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "u1": "ByteStorage"}
STAMP = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
ALIGNMENT = 64


def write_torch(file: BinaryIO, value: Any, name: str = "coreset") -> None:
    """value: None, booleans, ints, floats, strings, lists, dicts with string keys, and NumPy arrays
    of float32, float64, int64 or uint8, which become tensors. Raises TypeError for others."""
    tensors: list[np.ndarray] = []
    body = pickle.PROTO + b"\x02" + _encode(value, tensors) + pickle.STOP
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, f"{name}/data.pkl", body)
        _add(archive, f"{name}/byteorder", b"little")
        for key, array in enumerate(tensors):
            little = np.dtype(f"<{array.dtype.str[1:]}")
            _add(archive, f"{name}/data/{key}", array.astype(little).tobytes(), file)
        _add(archive, f"{name}/version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data: bytes, aligned: BinaryIO | None = None) -> None:
    """One member; tensors start at a multiple of 64 bytes, as torch has them for memory maps."""
    info = zipfile.ZipInfo(name, STAMP)
    if aligned is not None:
        start = aligned.tell() + 30 + len(name.encode())
        # The extra field: a two-byte id, a two-byte length, and that many bytes of filling.
        filling = -(start + 4) % ALIGNMENT
        info.extra = struct.pack("<2sH", b"FB", filling) + b"Z" * filling
    archive.writestr(info, data)


def _encode(value: Any, tensors: list[np.ndarray]) -> bytes:
    """Opcodes that leave `value` on the stack; arrays are appended to `tensors`."""
    if value is None:
        return pickle.NONE
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return pickle.LONG1 + bytes([len(data)]) + data
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    if isinstance(value, list):
        items = b"".join(_encode(item, tensors) for item in value)
        return pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys must be strings")
        pairs = (_encode(k, tensors) + _encode(v, tensors) for k, v in value.items())
        return pickle.EMPTY_DICT + pickle.MARK + b"".join(pairs) + pickle.SETITEMS
    if isinstance(value, np.ndarray) and value.dtype.str[1:] in STORAGE:
        return _tensor(value, tensors)
    raise TypeError(f"cannot be written for torch: {type(value).__name__}")


def _tensor(array: np.ndarray, tensors: list[np.ndarray]) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    key = str(len(tensors))
    tensors.append(array)
    kind = _global("torch", STORAGE[array.dtype.str[1:]])
    storage = [_encode("storage", []), kind, _encode(key, []), _encode("cpu", [])]
    reference = _tuple([*storage, _encode(int(array.size), [])]) + pickle.BINPERSID
    strides = [step // array.itemsize for step in array.strides]
    arguments = [
        reference, _encode(0, []), _integers(array.shape), _integers(strides), pickle.NEWFALSE,
        _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
    ]  # fmt: skip
    return _global("torch._utils", "_rebuild_tensor_v2") + _tuple(arguments) + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(parts: list[bytes]) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _integers(values: Any) -> bytes:
    return _tuple([_encode(int(value), []) for value in values])
