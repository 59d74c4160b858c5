"""Files of PyTorch with a state dictionary, made by Python's standard library alone."""

import pickle
import zipfile

NAMES = {"<f4": "FloatStorage", "<f2": "HalfStorage", "<i8": "LongStorage", "|b1": "BoolStorage"}
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}


def text(value):
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def integer(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def named(module, name):
    return b"c" + f"{module}\n{name}\n".encode()


def called(function, *parts):
    return function + tuple_of(*parts) + b"R"


EMPTY = called(named("collections", "OrderedDict"))


def tensor(key, array, *, offset=0, shape=None, strides=None, length=None, storage=None):
    """The pickle's instructions for one tensor, contiguous unless told otherwise."""
    shape = array.shape if shape is None else shape
    if strides is None:
        strides = [size // array.itemsize for size in array.strides]
    kind = named("torch", storage or NAMES[array.dtype.str])
    numbers = integer(array.size if length is None else length)
    place = tuple_of(text("storage"), kind, text(key), text("cpu"), numbers) + b"Q"
    sides = (tuple_of(*map(integer, values)) for values in (shape, strides))
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return called(rebuild, place, integer(offset), *sides, b"\x89", EMPTY)


def dictionary(entries):
    """A whole pickle of a dictionary, from its values' instructions."""
    items = b"".join(text(name) + value for name, value in entries.items())
    return b"\x80\x02" + EMPTY + b"(" + items + b"u."


def described(arrays):
    return dictionary({name: tensor(str(k), arrays[name]) for k, name in enumerate(arrays)})


def zipped(path, arrays, description=None, *, order="little", method=zipfile.ZIP_STORED):
    """Write the format that PyTorch has used since 1.6."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("net/data.pkl", description or described(arrays))
        archive.writestr("net/byteorder", order)
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"net/data/{key}", array.tobytes())
    return path


def in_a_row(path, arrays, description=None, system=None):
    """Write the format that PyTorch used before."""
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, system or SYSTEM):
            file.write(pickle.dumps(value, 2))
        file.write(description or described(arrays))
        file.write(pickle.dumps([str(key) for key in range(len(arrays))], 2))
        for array in arrays.values():
            file.write(array.size.to_bytes(8, "little") + array.tobytes())
    return path
