"""Choose where and how the teacher's predictions are stored: in memory, or in a directory."""

import dataclasses
import logging
import math
import os
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kd_keras.cache import build
from kd_keras.cache.encoding import Storage, as_storage
from kd_keras.cache.request import Request, make_request
from kd_keras.cache.rows import InMemory, Stored
from kd_keras.cache.transfer import Arrays, TransferSet
from kd_keras.runtime.machine import available_memory
from kd_keras.teachers import CachedTeacher, TeacherSource
from kd_keras.utils.checks import positive, unknown, within
from kd_keras.utils.files import default_directory

log = logging.getLogger(__name__)

MODES = ("auto", "off")
MEMORY_SHARE = 0.25

# By model, or by source if it has none: rows live as long as their teacher. Then by all else that
# the rows depend on, with the fingerprint that the teacher had.
_memory: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Cache:
    """Settings of where and how the teacher's predictions are stored.

    Args:
        directory: a folder, which may hold the predictions of many teachers and data sets. Rows
            found in it are not computed again, in this process or another. None stores rows in
            memory if they fit, and otherwise in `default_directory()`.
        storage: `"float32"`, `"float16"`, `"top10"` (the ten largest classes, or another number), a
            `Storage`, or a dict of these by tap. Top-k is for the logits; other taps are then
            float32.
        limit: bytes that one teacher's predictions on one set of images may take, or None.
        memory_share: the share of the free memory that rows may take.

    Raises:
        ValueError: for an unknown storage, a limit that is not positive, or a share outside [0, 1].

    Example:
        >>> import tempfile, kd_keras as kd
        >>> task = kd.data.load("digits")
        >>> teacher = kd.models.build("cnn", input_shape=task.image_shape, classes=task.classes)
        >>> cache = kd.cache.Cache(tempfile.mkdtemp(), storage="float16")
        >>> images = kd.cache.Arrays(task.train.images[:100])
        >>> stored = cache.open(kd.LiveTeacher(teacher), images)
        >>> stored.count, stored.shapes
        (100, {'logits': (None, 10)})
    """

    directory: str | os.PathLike[str] | None = None
    storage: str | Storage | Mapping[str, str | Storage] = "float32"
    limit: int | None = None
    memory_share: float = MEMORY_SHARE

    def __post_init__(self) -> None:
        given = self.storage.values() if isinstance(self.storage, Mapping) else [self.storage]
        for storage in given:
            as_storage(storage)
        if self.limit is not None:
            positive("limit", self.limit)
        within("memory_share", self.memory_share, 0.0, 1.0)

    def open(self, source: TeacherSource, transfer_set: TransferSet) -> Stored:
        """Return the source's predictions on a transfer set, computed at most once.

        Args:
            source: a teacher.
            transfer_set: the images.

        Returns:
            The rows. Rows in memory are shared by all callers.

        Raises:
            ChangingTeacher: a `ValueError`, for a teacher whose predictions differ from run to run.
            ValueError: for a teacher whose predictions cannot be stored (see the message), for rows
                that take more than `limit`, and for predictions that are not finite.
            OSError: if the disk is too small, or full.
        """
        request = make_request(source, transfer_set, self.storage)
        room = self.memory_share * available_memory()
        if self.directory is None:
            if request.size is not None and request.size <= room:
                return _remembered(request, self.limit)
            log.info(
                "The teacher's predictions for %r take %s, but only %.1f GB of memory are set "
                "aside: they are stored in %s.",
                transfer_set.name,
                "an unknown amount" if request.size is None else f"{request.size / 1e9:.1f} GB",
                room / 1e9,
                default_directory(),
            )
        if not source.durable:
            raise ValueError(
                "This teacher's code is not part of its fingerprint, because Keras cannot "
                "serialize the model, so rows on disk could come from older code. Give the model "
                "a `get_config`, keep the rows in memory (directory=None, with a large enough "
                "memory_share), or run it live."
            )
        directory = default_directory() if self.directory is None else Path(self.directory)
        return build.on_disk(request, directory, limit=self.limit, room=room)


def as_cache(given) -> Cache | None:
    """Return a `Cache` for `"auto"` or a `Cache`, and None for `"off"`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(given, Cache):
        return given
    if given not in MODES:
        raise ValueError(unknown("teacher_cache", given, MODES))
    return Cache() if given == "auto" else None


def rows(source: TeacherSource, images, batch_size: int = 256) -> dict[str, np.ndarray]:
    """Return the source's outputs for all images, in memory, computed at most once for both.

    Args:
        source: a teacher source.
        images: array, shape `(n, ...)`.
        batch_size: images per forward pass.

    Returns:
        dict from tap to float32 array, shape `(n, ...)`, in the order of `images`. The arrays are
        shared: do not write to them.
    """
    if isinstance(source, CachedTeacher):
        return source.rows(images, batch_size)
    return _remembered(make_request(source, Arrays(images, batch_size), "float32"), None).arrays()


def fits(source: TeacherSource, count: int) -> bool:
    """Return whether the outputs for `count` images take at most a quarter of the free memory."""
    if any(None in shape[1:] for shape in source.shapes.values()):
        log.warning("A tap of the teacher has no fixed shape: the teacher runs at every step.")
        return False
    size = count * sum(_row_bytes(shape) for shape in source.shapes.values())
    room = MEMORY_SHARE * available_memory()
    if size > room:
        log.warning(
            "The teacher's predictions for %d images take %.1f GB, more than the %.1f GB set "
            "aside: the teacher runs at every step.",
            count,
            size / 1e9,
            room / 1e9,
        )
    return size <= room


def _row_bytes(shape: tuple[int | None, ...]) -> int:
    return 4 * math.prod(side for side in shape[1:] if side is not None)


def _remembered(request: Request, limit: int | None) -> InMemory:
    """Return rows in memory: those of an earlier fit, if teacher and images are unchanged."""
    known = _memory.setdefault(getattr(request.source, "model", request.source), {})
    content = dict(request.content)
    teacher = content.pop("teacher")
    place = repr(content)
    before, stored = known.get(place, (None, None))
    if before != teacher:  # first request, or the teacher has been trained since
        known.pop(place, None)
        stored = _of_a_twin(place, teacher)
        if stored is None:
            stored = build.in_memory(request, limit)
        known[place] = teacher, stored
    return stored


def _of_a_twin(place: str, teacher: str) -> InMemory | None:
    """Return the same rows as requested for another model, still alive, of the same content."""
    for known in _memory.values():
        before, stored = known.get(place, (None, None))
        if before == teacher:
            return stored
    return None
