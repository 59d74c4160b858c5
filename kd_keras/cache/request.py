"""Requests for a teacher's predictions on some images, stored in some way, and their keys."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras.cache.encoding import Float32, Part, Storage, TopK, as_storage
from kd_keras.cache.transfer import TransferSet
from kd_keras.teachers import CachedTeacher, TeacherSource
from kd_keras.utils.files import fingerprint

VERSION = 1  # of the rows' format; part of the key
PIXELS = Part("int64", ())


@dataclasses.dataclass(frozen=True)
class Column:
    """A tap and its storage; `shape` is the shape of one row."""

    tap: str
    shape: tuple[int, ...]
    storage: Storage

    @property
    def parts(self) -> dict[str, Part]:
        """The arrays that hold it."""
        return self.storage.parts(self.tap, self.shape)

    def encode(self, values: np.ndarray, first_row: int) -> dict[str, np.ndarray]:
        """Encode values as rows to store; `first_row` is the number of the first, for messages.

        Raises:
            ValueError: for values of another shape, that are not finite or that do not fit.
        """
        if values.shape[1:] != self.shape:
            raise ValueError(
                f"The teacher returns shape {values.shape[1:]} for tap {self.tap!r}, but its "
                f"`shapes` say {self.shape}."
            )
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"The teacher's output for tap {self.tap!r} is not finite on image "
                f"{first_row + int(np.argmin(finite))} of the transfer set: check its weights and "
                "that image."
            )
        try:
            return self.storage.encode(values)
        except ValueError as error:
            raise ValueError(f"Tap {self.tap!r}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Request:
    """A teacher, the images it is run on, and how its taps are stored.

    Attributes:
        source: the teacher.
        transfer_set: the images.
        columns: one per tap.
    """

    source: TeacherSource
    transfer_set: TransferSet
    columns: tuple[Column, ...]

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """All that the rows depend on, as written in the files."""
        return {
            "version": VERSION,
            "transfer_set": self.transfer_set.key,
            "views": self.transfer_set.views,
            "teacher": self.source.fingerprint(),
            "taps": {column.tap: column.storage.name for column in self.columns},
        }

    @functools.cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits: the name of the rows' folder."""
        return fingerprint(self.content)

    @functools.cached_property
    def parts(self) -> dict[tuple[str, str], Part]:
        """All arrays, by tap and name."""
        return {
            (column.tap, name): part
            for column in self.columns
            for name, part in column.parts.items()
        }

    @property
    def row_bytes(self) -> int:
        """Bytes per row, including its image's fingerprint."""
        return PIXELS.row_bytes + sum(part.row_bytes for part in self.parts.values())

    @property
    def size(self) -> int | None:
        """Bytes of all rows at most; None if their number is not known."""
        count = self.transfer_set.count
        return None if count is None else count * self.row_bytes

    def answers(self) -> Callable[[tf.Tensor], dict[str, np.ndarray]]:
        """Return the teacher as a compiled function of a batch: dict from tap to array.

        The arrays are of the type that the tap's storage takes.
        """
        types = {column.tap: column.storage.dtype for column in self.columns}
        return lambda images: _arrays(self.source.on_images(images), types)

    def answers_now(self, images: tf.Tensor) -> dict[str, np.ndarray]:
        """Run the teacher on a few images, op by op: dict from tap to float32 array."""
        types = {column.tap: "float32" for column in self.columns}
        return _arrays(self.source({"image": images}), types)


def _arrays(answers: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, np.ndarray]:
    return {tap: np.asarray(answers[tap], dtype) for tap, dtype in types.items()}


def make_request(source: TeacherSource, transfer_set: TransferSet, storage) -> Request:
    """Make a request, with a storage for each of the source's taps.

    Args:
        source: the teacher.
        transfer_set: the images.
        storage: a storage or its name, or a dict of these by tap.

    Raises:
        ValueError: for a teacher that only looks up rows, a tap without a fixed shape, and a
            storage that cannot hold a tap.
    """
    if isinstance(source, CachedTeacher):
        raise ValueError(
            "`source` is a CachedTeacher, whose rows are found by index: it cannot be run on "
            "images. Join its rows with kd_keras.cache.join(dataset, rows)."
        )
    free = {tap: shape for tap, shape in source.shapes.items() if None in shape[1:]}
    if free:
        raise ValueError(
            "Every tap needs a fixed shape to be stored. Received: "
            f"{', '.join(f'{tap!r} of shape {shape}' for tap, shape in free.items())}. "
            "Run this teacher live."
        )
    chosen = storages(storage, source.shapes)
    columns = tuple(
        Column(tap, tuple(int(side) for side in shape[1:]), chosen[tap])  # type: ignore[arg-type]
        for tap, shape in source.shapes.items()
    )
    request = Request(source, transfer_set, columns)
    _ = request.parts  # refuses a storage that cannot hold a tap, before anything else is done
    return request


def storages(storage, shapes: Mapping[str, tuple]) -> dict[str, Storage]:
    """Return one storage per tap.

    A single `TopK` applies to the logits, and other taps are float32. So are taps that a dict does
    not name.

    Raises:
        ValueError: for a dict that names a tap which is not there.
    """
    if isinstance(storage, Mapping):
        unknown = [tap for tap in storage if tap not in shapes]
        if unknown:
            raise ValueError(
                f"`storage` names the taps {unknown}, but the teacher gives {sorted(shapes)}."
            )
        return {tap: as_storage(storage.get(tap, Float32())) for tap in shapes}
    one = as_storage(storage)
    of_others = Float32() if isinstance(one, TopK) else one
    return {tap: one if tap == "logits" else of_others for tap in shapes}
