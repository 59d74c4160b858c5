"""Files that the library wrote, read again: whole, of the shape that was written, or named.

A file that a bad disk or a hand has changed is a `DamagedFile` with the file's name, whatever
library reads it. Working files of a training are set aside under another name, never deleted, and
that training begins anew.
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

DAMAGED = ".damaged"  # ends the name of what is set aside

# What a value must look like: a type (float takes whole numbers too, None stands for null), a
# tuple of shapes that will do, a list whose one entry all elements have, a dict of the entries that
# must be there, or `{str: shape}` for one whose entries all have that shape. `dict` takes any.
Shape = Any


class DamagedFile(ValueError):
    """A file that cannot be what was written.

    Attributes:
        path: its path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, advice: str = ""):
        super().__init__(f"{os.fspath(path)} is damaged: {reason}.{advice and ' '}{advice}")
        self.path, self.reason = Path(path), reason


def misfit(value: Any, shape: Shape, name: str = "the whole") -> str | None:
    """How a value from JSON differs from its shape; None where it does not.

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
    str: "a text",
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
    """A value from JSON.

    Args:
        path: where the text is from; named in the error.
        text: the JSON; bytes are UTF-8.
        shape: what the value must look like, see the head of this module.

    Raises:
        DamagedFile: no JSON, or of another shape.
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
    """A value from a JSON file.

    Args:
        path: the file.
        shape: what the value must look like, see the head of this module.
        advice: a sentence for the error: what to do.

    Raises:
        FileNotFoundError: it is not there.
        DamagedFile: it is not JSON, or of another shape.

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
    """Write a JSON object with the digest of itself, whole or not at all."""
    plain = json.loads(json.dumps(value))
    write_json(path, {**plain, "digest": fingerprint(plain)})


def read_signed(path: Path, shape: Shape = dict) -> dict[str, Any]:
    """What `write_signed` wrote.

    Raises:
        FileNotFoundError: it is not there.
        DamagedFile: it is not what was written.
    """
    value = read_json(path, shape)
    plain = {name: inner for name, inner in value.items() if name != "digest"}
    if value.get("digest") != fingerprint(plain):
        raise DamagedFile(path, "it does not agree with its own digest")
    return plain


def read_lines(path: Path, shape: Shape = dict, advice: str = "") -> list[dict[str, Any]]:
    """The values of a file of JSON lines; a last line that a kill has torn is left out.

    Raises:
        DamagedFile: another line is not JSON, or of another shape.
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
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Compare files with the digests that were taken of them when they were written.

    Args:
        folder: where they lie.
        digests: by name.

    Raises:
        DamagedFile: one is gone, or has other bytes.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFile(path, "it is gone")
        if digest_of(path) != digest:
            raise DamagedFile(path, "it does not hold the bytes that were written")


def read_arrays(path: Path) -> list[np.ndarray]:
    """The arrays of an `.npz` file, in their order.

    Raises:
        DamagedFile: it is not one, or its checksums are wrong.
    """
    # opened here: of a file that it cannot read, numpy leaves it to chance when it is closed
    with reading(path), path.open("rb") as file, np.load(file) as stored:
        return [stored[name] for name in stored.files]


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block in which a library reads `path`: whatever it raises is said of that file.

    Libraries raise nearly anything for damaged bytes.

    Raises:
        DamagedFile: for any error but those of memory and of a file that is not there.
    """
    try:
        yield
    except (DamagedFile, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise DamagedFile(path, f"{type(error).__name__}, {error}") from error


def set_aside(path: Path, reason: object, then: str) -> None:
    """Give a damaged file or folder another name, beside its own, and say so.

    Args:
        path: what is damaged.
        reason: a sentence that names the file.
        then: what happens now.
    """
    aside, number = path.with_name(path.name + DAMAGED), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{DAMAGED}{number}")
    path.rename(aside)
    # as text: a record that somebody keeps would keep an error's frames, and the locks in them
    log.warning("%s It is kept as %s. %s", str(reason), aside, then)
