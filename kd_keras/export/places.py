"""Where an export lies: in a folder, or in one file."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kd_keras.export.content import KIND
from kd_keras.utils.files import whole_file, whole_folder


class Place(Protocol):
    """How the files of a format appear under their name."""

    def named(self, path: Path) -> Path:
        """Return `path` with the ending that the format wants."""

    def check(self, target: Path) -> None:
        """Raise `FileExistsError` or `ValueError` for a target that cannot be written."""

    def whole(self, target: Path) -> contextlib.AbstractContextManager[Path]:
        """Yield a temporary path that takes the name `target` when the block succeeds."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder of files. Other files in it stay.

    Attributes:
        names: the files and folders that an export may contain; an earlier export's are replaced.
        check_content: raises `FileExistsError` for a folder that holds something else.
    """

    names: tuple[str, ...]
    check_content: Callable[[Path], None]

    def named(self, path: Path) -> Path:
        """Return `path`: a folder has no ending."""
        return path

    def check(self, target: Path) -> None:
        """Raise `FileExistsError` for a file, or a folder that holds something else."""
        if target.exists() and not target.is_dir():
            raise FileExistsError(f"`path` must be a folder to write, but it is a file: {target}")
        self.check_content(target)

    def whole(self, target: Path) -> contextlib.AbstractContextManager[Path]:
        """Yield a temporary folder that takes the name `target` when the block succeeds."""
        return whole_folder(target, ours=self.names)


@dataclasses.dataclass(frozen=True)
class SingleFile:
    """One file.

    Attributes:
        ending: the ending of its name, such as `.onnx`.

    Example:
        >>> SingleFile(".onnx").named(Path("student.v2"))
        PosixPath('student.v2.onnx')
    """

    ending: str

    def named(self, path: Path) -> Path:
        """Return `path` with the ending, which is added if it is missing."""
        return path if path.suffix == self.ending else path.with_name(path.name + self.ending)

    def check(self, target: Path) -> None:
        """Raise for a path with another ending, and for a folder."""
        if target.suffix != self.ending:
            raise ValueError(
                f"`path` must end in {self.ending} for this format. Received: {target}"
            )
        if target.is_dir():
            raise FileExistsError(f"`path` must be a file to write, but it is a folder: {target}")

    def whole(self, target: Path) -> contextlib.AbstractContextManager[Path]:
        """Yield a temporary path that takes the name `target` when the block succeeds."""
        return whole_file(target)


def beside(target: Path) -> Path:
    """Return the path of the JSON file that stands beside an export.

    Example:
        >>> beside(Path("deployed/student.tflite")).name
        'student.tflite.json'
    """
    return target.with_name(f"{target.name}.json")


def check_beside(target: Path) -> None:
    """Raise `FileExistsError` if the JSON file beside an export would replace somebody else's."""
    path = beside(target)
    if not path.exists():
        return
    try:
        ours = json.loads(path.read_text("utf-8")).get("kind") == KIND
    except (ValueError, AttributeError, OSError):  # no JSON, no object, or a folder
        ours = False
    if not ours:
        raise FileExistsError(f"The export's facts belong in {path}, which holds something else.")
