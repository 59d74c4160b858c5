"""Join arrays given to `fit` with their stored rows: the teacher's predictions, and features."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kd_keras import cache
from kd_keras.models.taps import FeatureExtractor
from kd_keras.teachers import CachedTeacher, TeacherSource
from kd_keras.training import features
from kd_keras.training.batches import FEATURES, PLACE

log = logging.getLogger(__name__)

MANY, BATCH_BYTES = 128, 8 * 2**20  # images of one forward pass that stores its results


@dataclasses.dataclass(frozen=True)
class Joined:
    """Images, joined with their stored predictions and features.

    Attributes:
        batch: holds `index`; under the name of each source its rows in memory, a dict by tap; and
            `image`, if a model still has to see it.
        on_disk: rows that memory does not hold, by name of the source. They are looked up at each
            step by `PLACE`, which the batch then holds too.
        head: the trained part of the student, which takes features; None if the whole student sees
            the images.
    """

    batch: dict[str, Any] = dataclasses.field(default_factory=dict)
    on_disk: dict[str, cache.Stored] = dataclasses.field(default_factory=dict)
    head: FeatureExtractor | None = None

    def predictions(self, name: str) -> Any:
        """Return the stored predictions of a teacher: a dict by tap, rows on disk, or None."""
        return self.batch.get(name, self.on_disk.get(name))


class Joiner:
    """Joins images with stored predictions, each computed at most once.

    Args:
        student: the student with the taps that training uses.
        sources: the teachers, by the name that their predictions get in a batch.
        kept: the cache that stores the predictions; None means that none are stored, except those
            of a `CachedTeacher`.
        batch_size: images per forward pass.
    """

    def __init__(
        self,
        student: FeatureExtractor,
        sources: Mapping[str, TeacherSource],
        kept: cache.Cache | None,
        batch_size: int,
    ):
        self._student, self._batch_size = student, batch_size
        self._kept = cache.Cache() if kept is None else kept  # if None, it stays unused
        self._sources = {
            name: source
            for name, source in sources.items()
            if isinstance(source, CachedTeacher)
            or (kept is not None and _is_constant(source, name))
        }
        found = None if kept is None else features.parts_of(student)
        self._features = None if found is None else found[0]
        self._head = None if found is None else found[1]
        # True if a teacher runs at every step and has to see the images
        self._sees = set(sources) != set(self._sources)

    def __call__(self, x) -> Joined:
        """Return the input for `fit` that replaces the images `x`, an array of shape `(n, ...)`.

        If the models take several inputs, `x` is a dict or a tuple of arrays; then nothing is
        computed beforehand.
        """
        count = len(keras.tree.flatten(x)[0])
        batch, on_disk = {"image": x, "index": np.arange(count, dtype="int32")}, {}
        plain = isinstance(x, np.ndarray)
        images = self._as_images(x) if plain else None
        for name, source in self._sources.items():
            if isinstance(source, CachedTeacher):
                batch[name] = dict(source.rows(x))
                continue
            stored = None if images is None else self._opened(name, source, images)
            if isinstance(stored, cache.InMemory):
                batch[name] = dict(stored.arrays())
            elif stored is not None:
                on_disk[name] = stored
                batch[PLACE] = batch["index"]
        with_features = images is not None and self._with_features(batch, images)
        return Joined(batch, on_disk, self._head if with_features else None)

    def _as_images(self, x: np.ndarray) -> cache.Arrays:
        """Return the images as a transfer set, in batches that are large but fit into memory."""
        many = min(MANY, BATCH_BYTES // max(1, x[:1].nbytes))
        return cache.Arrays(x, max(self._batch_size, many))

    def _opened(self, name: str, source: TeacherSource, images: cache.Arrays):
        """Open the stored rows of a source; None for one that has to run at every step."""
        try:
            return self._kept.open(source, images)
        except cache.ChangingTeacher as reason:
            log.warning("The %s runs at every step. %s", name, reason)
            self._sees = True
            return None

    def of_features(self) -> Joined:
        """Return a `Joined` for a pipeline that yields the features of the student's frozen part.

        Raises:
            ValueError: if the student has no frozen part.
        """
        found = features.parts_of(self._student)
        if found is None:
            raise ValueError(
                f"The dataset holds {FEATURES!r}, but {self._student.model.name!r} has no frozen "
                "part that ends in a single tensor. Freeze the same layers as when the features "
                "were computed."
            )
        return Joined(head=found[1])

    def with_validation(self, joined: Joined, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of `fit`, with features joined to validation data given as arrays."""
        held_out = options.get("validation_data")
        if joined.head is None or not isinstance(held_out, tuple):
            return options
        x = held_out[0]
        if not isinstance(x, np.ndarray):
            return options
        batch = {"image": x, "index": np.arange(len(x), dtype="int32")}
        if not self._with_features(batch, self._as_images(x)):
            return options
        return {**options, "validation_data": (batch, *held_out[1:])}

    def _with_features(self, batch: dict[str, Any], images: cache.Arrays) -> bool:
        """Add the features of the frozen part to a batch, if memory holds them."""
        if self._features is None or not cache.fits(self._features, len(batch["index"])):
            return False
        # always in memory and exact: the user's cache settings are for the teacher's predictions
        stored = cache.Cache().open(self._features, images)
        batch[FEATURES] = dict(stored.arrays())
        if not self._sees:
            del batch["image"]  # no model sees it any more
        return True


def _is_constant(source: TeacherSource, name: str) -> bool:
    for tap, shape in source.shapes.items():
        if None in shape[1:]:
            log.warning("The %s runs at every step: its tap %r has no fixed shape.", name, tap)
            return False
    return True
