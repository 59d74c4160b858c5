"""State dictionaries of PyTorch, read without it: right, or refused."""

import contextlib
import importlib.util
import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
from state_files import (
    EMPTY,
    called,
    dictionary,
    in_a_row,
    integer,
    named,
    tensor,
    text,
    tuple_of,
    zipped,
)

from kd_keras.models import _pickled, _pytorch

rng = np.random.default_rng(0)
FORMATS = pytest.mark.parametrize("write", [zipped, in_a_row])


def arrays():
    return {
        "conv.weight": rng.normal(size=(4, 3, 2, 2)).astype("float32"),
        "half": rng.normal(size=5).astype("float16"),
        "count": np.array(7),
        "mask": np.array([True, False]),
    }


@FORMATS
def test_names_shapes_types_and_numbers_are_those_of_the_file(tmp_path, write):
    want = arrays()
    got = _pytorch.read(write(tmp_path / "net.pth", want))
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, strict=True)


@FORMATS
def test_a_tensor_may_lie_anywhere_in_a_storage_and_share_it(tmp_path, write):
    stored = {"all": np.arange(12, dtype="float32")}
    place = tensor("0", stored["all"], offset=1, shape=(2, 3), strides=(1, 4))
    description = dictionary({"part": place, "all": tensor("0", stored["all"])})
    got = _pytorch.read(write(tmp_path / "net.pth", stored, description))
    np.testing.assert_array_equal(got["part"], [[1, 5, 9], [2, 6, 10]])
    np.testing.assert_array_equal(got["all"], stored["all"])


def test_nothing_is_called_but_what_is_named():
    """A name alone does nothing; a string in its place cannot be called."""
    with pytest.raises(ValueError, match="it calls a str"):
        _pickled.load(
            io.BytesIO(b"\x80\x02" + called(text("os.mkdir"), text("x")) + b"."), {}, repr
        )
    path = io.BytesIO(b"\x80\x02(ios\nmkdir\n.")
    with pytest.raises(
        ValueError, match="it has the instruction INST 'os mkdir', which is refused"
    ):
        _pickled.load(path, {}, repr)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_data_is_that_of_python_in_every_protocol(protocol):
    long = "x" * 300
    data = {
        "a": [1, -70000, True, None],
        "b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        long: {},
    }
    data["again"] = [data["a"], long, 2**70]
    stream = io.BytesIO(pickle.dumps(data, protocol) + b"behind")
    assert _pickled.load(stream, {}, repr) == data
    assert stream.read() == b"behind"


def calling(module, name, *parts):
    return dictionary({"weight": called(named(module, name), *parts)})


@FORMATS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (os.system.__module__, "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "check_call"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "OrderedDict.__init__"),
    ],
)
def test_a_pickle_that_calls_anything_else_is_refused_and_runs_nothing(
    tmp_path, write, module, name
):
    trace = tmp_path / "trace"
    description = calling(module, name, text(f"touch {trace}"))
    path = write(tmp_path / "net.pth", {}, description)
    with pytest.raises(ValueError, match=re.escape(f"it names {module}.{name}, which is refused")):
        _pytorch.read(path)
    assert not trace.exists()


class Harmful:
    """What a `__reduce__` can do; unpickled as usual it would make a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_pickles_of_a_file_are_refused_alike(tmp_path, place):
    values = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    values[place] = Harmful(tmp_path / "made")
    path = tmp_path / "net.pth"
    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in values))
    with pytest.raises(ValueError, match=rf"it names {os.mkdir.__module__}\.mkdir, which"):
        _pytorch.read(path)
    assert not (tmp_path / "made").exists()


ONE = {"weight": np.zeros(4, "float32")}


def one(**changes):
    return dictionary({"weight": tensor("0", ONE["weight"], **changes)})


@FORMATS
@pytest.mark.parametrize(
    ("description", "message"),
    [
        (one(offset=1), "buffer"),
        (one(offset=-1), "a negative offset, side or stride"),
        (one(strides=(2,)), "strides|buffer"),
        (one(strides=(-1,)), "a negative offset, side or stride"),
        (one(shape=(2**30, 2**30), strides=(0, 0)), "is larger than its storage"),
        (one(length=5), "storage 0 must have 20 bytes, and has"),
        (one(length=-4), "storage 0 must have -16 bytes, and has"),
        (one(storage="BFloat16Storage"), r"it names torch\.BFloat16Storage, which is refused"),
        (dictionary({"weight": EMPTY}), "under 'weight' it holds a dict"),
        (dictionary({"state_dict": integer(3)}), "under 'state_dict' it holds a int"),
        (b"\x80\x02" + integer(3) + b".", "it holds a int"),
        (
            b"\x80\x02" + tuple_of(text("module"), EMPTY) + b"Q.",
            "something that is no storage|to unpack",
        ),
    ],
)
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path, write, description, message):
    path = write(tmp_path / "net.pth", ONE, description)
    with pytest.raises(ValueError, match=message) as caught:
        _pytorch.read(path)
    assert str(caught.value).startswith(f"{path} must be a file of PyTorch with a state dictionary")


@FORMATS
def test_a_torn_file_is_refused_wherever_it_ends(tmp_path, write):
    whole = write(tmp_path / "whole.pth", arrays()).read_bytes()
    path = tmp_path / "torn.pth"
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"torn\.pth must be a file of PyTorch"):
            _pytorch.read(path)


# `pickletools` reads some damaged names as if they were escaped
@pytest.mark.filterwarnings("ignore:invalid (octal )?escape sequence:DeprecationWarning")
@FORMATS
def test_damaged_bytes_raise_no_other_error(tmp_path, write):
    whole = write(tmp_path / "whole.pth", arrays()).read_bytes()
    path = tmp_path / "damaged.pth"
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
        # where the numbers themselves changed there is no error
        with contextlib.suppress(ValueError):
            _pytorch.read(path)


def test_other_orders_archives_and_files_are_named(tmp_path):
    path = tmp_path / "net.pth"
    zipped(path, ONE, order="big")
    with pytest.raises(ValueError, match="its numbers are big-endian"):
        _pytorch.read(path)
    in_a_row(path, ONE, system={"little_endian": False})
    with pytest.raises(ValueError, match="its numbers are big-endian"):
        _pytorch.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ValueError, match=r"a zip archive without a data\.pkl"):
        _pytorch.read(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="does not begin with PyTorch's magic number"):
        _pytorch.read(path)
    with pytest.raises(FileNotFoundError):
        _pytorch.read(tmp_path / "none.pth")


def test_a_storage_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    stored = {"weight": np.zeros(1 << 20, "float32")}
    path = zipped(tmp_path / "net.pth", stored, one(), method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="storage 0 must have 16 bytes, and has 4194304"):
        _pytorch.read(path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_pytorch_itself_are_read_as_it_reads_them(tmp_path, zipped):
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = net.state_dict()
    state["turned"] = torch.randn(4, 5, 2).permute(2, 0, 1)
    state["part"] = torch.arange(10)[3:9:2]
    state["double"] = torch.randn(3, dtype=torch.float64)
    path = tmp_path / "net.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    got = _pytorch.read(path)
    assert list(got) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(got[name], value.numpy(), strict=True)
