"""Read files that the library wrote, and check that they are complete and of the right shape.

A file that was changed, by a bad disk or by hand, raises `DamagedFile` with its name, whichever
library reads it. Damaged working files of a training are renamed, never deleted, and that training
starts anew.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.utils.files import fingerprint, write_json

log = logging.getLogger(__name__)

DAMAGED = ".damaged"  # suffix of the name of a file or folder that is set aside

# The shape of a value: a type (float takes whole numbers too, None stands for null), a tuple of
# alternative shapes, a list with the one shape of all elements, a dict of the required entries, or
# `{str: shape}` for a dict whose entries all have that shape. `dict` takes any dict.
Shape = Any


class DamagedFile(ValueError):
    """A file whose content cannot be what was written.

    Attributes:
        path: its path.
        reason: what is wrong.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, advice: str = ""):
        super().__init__(f"{os.fspath(path)} is damaged: {reason}.{advice and ' '}{advice}")
        self.path, self.reason = Path(path), reason


def misfit(value: Any, shape: Shape, name: str = "the value") -> str | None:
    """Describe how a value from JSON differs from its shape; None if it does not.

    Example:
        >>> misfit({"epochs": 3, "random": [[1, 2]]}, {"epochs": int, "random": [[int]]})
        >>> misfit({"epochs": "3"}, {"epochs": int})
        "'epochs' is '3', and must be a whole number"
    """
    if isinstance(shape, tuple):
        found = [misfit(value, one, name) for one in shape]
        return None if None in found else found[0]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return _misfit(value, dict, name)
        if str in shape:
            shape = dict.fromkeys(value, shape[str])
        missing = [key for key in shape if key not in value]
        if missing:
            return f"{missing[0]!r} is missing"
        parts = (misfit(value[key], inner, repr(key)) for key, inner in shape.items())
        return next((part for part in parts if part), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _misfit(value, list, name)
        parts = (misfit(inner, shape[0], f"an entry of {name}") for inner in value)
        return next((part for part in parts if part), None)
    return None if _is(value, shape) else _misfit(value, shape, name)


_WORDS: dict[type | None, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    None: "null",
}


def _misfit(value: Any, kind: type | None, name: str) -> str:
    return f"{name} is {str(value)[:40]!r}, and must be {_WORDS[kind]}"


def _is(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def parse(path: str | os.PathLike[str], text: str | bytes, shape: Shape = dict) -> Any:
    """Parse JSON, and check the shape of the value.

    Args:
        path: the origin of the text; named in the error.
        text: the JSON; bytes are UTF-8.
        shape: the shape of the value, see `Shape`.

    Raises:
        DamagedFile: if it is not JSON, or of another shape.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it is not JSON ({error})") from error
    wrong = misfit(value, shape)
    if wrong:
        raise DamagedFile(path, wrong)
    return value


def read_json(path: str | os.PathLike[str], shape: Shape = dict, advice: str = "") -> Any:
    """Read a value from a JSON file.

    Args:
        path: the file.
        shape: the shape of the value, see `Shape`.
        advice: a sentence for the error, on what to do.

    Raises:
        FileNotFoundError: if it does not exist.
        DamagedFile: if it is not JSON, or of another shape.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "outcome.json"
        >>> _ = path.write_text('{"epochs": 3}')
        >>> read_json(path, {"epochs": int})
        {'epochs': 3}
    """
    try:
        return parse(path, Path(path).read_bytes(), shape)
    except DamagedFile as error:
        raise DamagedFile(path, error.reason, advice) from error


def write_signed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its own digest; the file appears whole or not at all."""
    plain = json.loads(json.dumps(value))
    write_json(path, {**plain, "digest": fingerprint(plain)})


def read_signed(path: Path, shape: Shape = dict) -> dict[str, Any]:
    """Read what `write_signed` wrote.

    Raises:
        FileNotFoundError: if the file does not exist.
        DamagedFile: if it is not what was written.
    """
    value = read_json(path, shape)
    plain = {name: inner for name, inner in value.items() if name != "digest"}
    if value.get("digest") != fingerprint(plain):
        raise DamagedFile(path, "it does not agree with its own digest")
    return plain


def read_lines(path: Path, shape: Shape = dict, advice: str = "") -> list[dict[str, Any]]:
    """Read the values of a file of JSON lines; a last line that a kill has torn is left out.

    Raises:
        DamagedFile: if another line is not JSON, or of another shape.
    """
    if not path.exists():
        return []
    written = path.read_bytes().split(b"\n")[:-1]  # a whole line ends in a line break
    values = []
    for number, line in enumerate(written, start=1):
        try:
            values.append(parse(path, line, shape))
        except DamagedFile as error:
            raise DamagedFile(path, f"line {number}: {error.reason}", advice) from error
    return values


def digest_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Compare files with the digests that were taken when they were written.

    Args:
        folder: the folder of the files.
        digests: dict from file name to digest.

    Raises:
        DamagedFile: if a file is gone, or has other bytes.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFile(path, "it is gone")
        if digest_of(path) != digest:
            raise DamagedFile(path, "it does not hold the bytes that were written")


def read_arrays(path: Path) -> list[np.ndarray]:
    """Read the arrays of an `.npz` file, in their order.

    Raises:
        DamagedFile: if it is not one, or its checksums are wrong.
    """
    # opened here, since numpy does not reliably close a file that it cannot read
    with reading(path), path.open("rb") as file, np.load(file) as stored:
        return [stored[name] for name in stored.files]


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error of the block, in which a library reads `path`, into a `DamagedFile`.

    Libraries raise nearly anything for damaged bytes.

    Raises:
        DamagedFile: for any error other than a lack of memory, a missing file, or a lack of
            permission.
    """
    try:
        yield
    except (DamagedFile, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise DamagedFile(path, f"{type(error).__name__}, {error}") from error


def set_aside(path: Path, reason: object, then: str) -> None:
    """Rename a damaged file or folder, within its folder, and log a warning.

    Args:
        path: the damaged file or folder.
        reason: a sentence that names the file.
        then: a sentence on what happens now.
    """
    aside, number = path.with_name(path.name + DAMAGED), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{DAMAGED}{number}")
    path.rename(aside)
    # as text: a stored log record would keep the error's frames alive, and the locks in them
    log.warning("%s It was renamed to %s. %s", str(reason), aside, then)
