"""Read the state dictionary in a `.pth` file of PyTorch, without PyTorch.

PyTorch has written two formats. Since version 1.6 a file is a zip archive: `data.pkl` describes the
tensors, and `data/0`, `data/1`, ... are the bytes that they lie in, called storages. Before, a file
was five pickles in a row (a magic number, the protocol, the system, the tensors, the keys of the
storages), followed by each storage's length and bytes.

A pickle can call any function of Python. Here it may use the few names of a state dictionary; all
others are refused before anything is called.
"""

import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from kd_keras.models import _pickled

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
# NumPy's types of the storages; bfloat16 has none
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
# what damaged bytes raise in NumPy, `zipfile` and `pickletools`, by documentation and by trial
_DAMAGED = (
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int

    @property
    def bytes(self) -> int:
        return self.length * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
    """The place of a tensor in its storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, content: bytes) -> np.ndarray:
        """Return a copy; NumPy refuses a place that does not lie within the content."""
        if min([self.offset, *self.shape, *self.strides]) < 0:
            raise ValueError("a tensor has a negative offset, side or stride")
        if math.prod(self.shape) > self.storage.length:  # strides of 0 repeat without limit
            raise ValueError(f"a tensor of shape {self.shape} is larger than its storage")
        size = np.dtype(self.storage.dtype).itemsize
        strides = [size * stride for stride in self.strides]
        view: np.ndarray = np.ndarray(
            self.shape, self.storage.dtype, content, size * self.offset, strides
        )
        return view.copy()


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the tensors of a state dictionary, `{name: array}`, in the file's order.

    Args:
        path: a file that `torch.save(model.state_dict(), path)` wrote, in either format.

    Returns:
        Arrays of the shapes and types that PyTorch would return.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or holds anything but a flat dictionary of tensors. A
            name that no state dictionary needs is refused, and named.
    """
    path = Path(path)
    with path.open("rb") as file:
        return _read(file, path)


def _read(file: IO[bytes], path: Path) -> dict[str, np.ndarray]:
    try:
        return (_zipped if file.read(4) == _ZIP else _in_a_row)(file)
    except _DAMAGED as error:
        raise ValueError(
            f"{path} must be a file of PyTorch with a state dictionary, a flat dictionary of "
            f"tensors, as `torch.save(model.state_dict(), PATH)` writes it: {error}"
        ) from error


def _zipped(file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        inside = archive.namelist()
        descriptions = [name for name in inside if name.endswith("/data.pkl")]
        if len(descriptions) != 1:
            raise ValueError("it is a zip archive without a data.pkl")
        folder = descriptions[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in inside:
            _check_order(archive.read(f"{folder}byteorder") == b"little")
        with archive.open(descriptions[0]) as pickled:
            tensors, storages = _tensors(pickled)

        def content(storage: _Storage) -> bytes:
            name = f"{folder}data/{storage.key}"
            # before it is read: a small archive can unpack to more than memory holds
            _check_length(storage, archive.getinfo(name).file_size)
            return archive.read(name)

        return _arrays(tensors, {key: content(storage) for key, storage in storages.items()})


def _in_a_row(file: IO[bytes]) -> dict[str, np.ndarray]:
    file.seek(0)
    if _plain(file) != MAGIC or _plain(file) != PROTOCOL:
        raise ValueError("it does not begin with PyTorch's magic number and protocol")
    _check_order(_plain(file)["little_endian"])
    tensors, storages = _tensors(file)
    contents = {}
    for key in _plain(file):
        storage = storages[key]
        length = int.from_bytes(file.read(8), "little")
        _check_length(storage, length * np.dtype(storage.dtype).itemsize)
        contents[key] = file.read(storage.bytes)
        _check_length(storage, len(contents[key]))
    return _arrays(tensors, contents)


def _plain(file: IO[bytes]) -> Any:
    """Return the numbers, strings and containers of the next pickle, which may name nothing."""

    def refused(_identifier: Any) -> None:
        raise ValueError("it refers to a storage before its tensors")

    return _pickled.load(file, {}, refused)


def _check_order(little: bool) -> None:
    if not little:
        raise ValueError("its numbers are big-endian, and little-endian ones are read")


def _check_length(storage: _Storage, found: int) -> None:
    if storage.bytes != found:
        raise ValueError(f"storage {storage.key} must have {storage.bytes} bytes, and has {found}")


def _tensors(pickled: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, _Storage]]:
    """Return the places of the tensors, and the storages that they lie in, by key."""
    storages: dict[str, _Storage] = {}

    def stored(identifier: Any) -> _Storage:
        kind, dtype, key, _device, length, *view = identifier
        if kind != "storage" or dtype not in STORAGES.values() or any(view):
            raise ValueError("it refers to something that is no storage")
        if not (isinstance(key, str) and isinstance(length, int)):
            raise ValueError("it refers to a storage without a key and a length")
        found = storages.setdefault(key, _Storage(key, dtype, length))
        if found != _Storage(key, dtype, length):
            raise ValueError(f"it describes storage {key} in two ways")
        return found

    tensors = _pickled.load(pickled, _NAMES, stored)
    if not isinstance(tensors, dict):
        raise ValueError(f"it holds a {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"under {name!r} it holds a {type(tensor).__name__}")
    return tensors, storages


def _placed(storage: Any, offset: int, shape: Any, strides: Any, *_rest: Any) -> _Tensor:
    """Stand for PyTorch's function; the rest concerns gradients."""
    if not isinstance(storage, _Storage):
        raise ValueError(f"a tensor must lie in a storage, not in a {type(storage).__name__}")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


# all that the pickle of the tensors may name; the types of storages stand for NumPy's
_NAMES: dict[str, Any] = {
    "collections.OrderedDict": dict,
    "torch._utils._rebuild_tensor_v2": _placed,
    **{f"torch.{storage}": dtype for storage, dtype in STORAGES.items()},
}


def _arrays(tensors: dict[str, _Tensor], contents: dict[str, bytes]) -> dict[str, np.ndarray]:
    return {
        str(name): tensor.array(contents[tensor.storage.key]) for name, tensor in tensors.items()
    }
