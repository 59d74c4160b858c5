"""Arrays given to `fit`, joined with what is stored of them: the teacher's answers, features."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kd_keras import cache
from kd_keras.models.taps import TapView
from kd_keras.teachers import CachedTeacher, TeacherSource
from kd_keras.training import features
from kd_keras.training.batches import FEATURES, PLACE

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Joined:
    """Images, and what is known of each.

    Attributes:
        batch: `index`, by name of the source its rows in memory, each a dict by tap, and `image`
            where anything has to see it.
        on_disk: rows that memory does not hold, by name of the source: found at each step by
            `PLACE`, which the batch then holds too.
        head: what is trained, looking at features; None where the whole student sees the images.
    """

    batch: dict[str, Any] = dataclasses.field(default_factory=dict)
    on_disk: dict[str, cache.Stored] = dataclasses.field(default_factory=dict)
    head: TapView | None = None

    def predictions(self, name: str) -> Any:
        """What is stored of a teacher: a dict by tap, rows on disk, or None."""
        return self.batch.get(name, self.on_disk.get(name))


class Joiner:
    """Joins images with stored answers, each computed at most once.

    Args:
        student: the view of the student that training takes.
        sources: whose answers are joined, by the name that they get in a batch.
        kept: where they are kept; None keeps none but those that are stored already.
        batch_size: images a forward pass.
    """

    def __init__(
        self,
        student: TapView,
        sources: Mapping[str, TeacherSource],
        kept: cache.Cache | None,
        batch_size: int,
    ):
        self._student, self._batch_size = student, max(batch_size, 128)
        self._kept = cache.Cache() if kept is None else kept  # then nothing is asked of it
        self._sources = {
            name: source
            for name, source in sources.items()
            if isinstance(source, CachedTeacher)
            or (kept is not None and _is_constant(source, name))
        }
        found = None if kept is None else features.parts_of(student)
        self._features = None if found is None else found[0]
        self._head = None if found is None else found[1]
        # a teacher that runs at every step has to see the images
        self._sees = set(sources) != set(self._sources)

    def __call__(self, x) -> Joined:
        """What `fit` is given instead of the images `x`, an array of shape `(n, ...)`.

        Where the models take several inputs, `x` is a dict or a tuple of arrays; then nothing is
        computed beforehand.
        """
        count = len(keras.tree.flatten(x)[0])
        batch, on_disk = {"image": x, "index": np.arange(count, dtype="int32")}, {}
        plain = isinstance(x, np.ndarray)
        images = cache.Arrays(x, self._batch_size) if plain else None
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

    def _opened(self, name: str, source: TeacherSource, images: cache.Arrays):
        """What is stored of a source; None for one that has to run at every step."""
        try:
            return self._kept.open(source, images)
        except cache.ChangingTeacher as reason:
            log.warning("The %s runs at every step. %s", name, reason)
            self._sees = True
            return None

    def of_features(self) -> Joined:
        """For a pipeline that yields the features of the student's frozen part.

        Raises:
            ValueError: the student has none.
        """
        found = features.parts_of(self._student)
        if found is None:
            raise ValueError(
                f"The dataset holds {FEATURES!r}, and {self._student.model.name!r} has no frozen "
                "part that ends in one tensor. Freeze it as it was when they were made."
            )
        return Joined(head=found[1])

    def with_validation(self, joined: Joined, options: dict[str, Any]) -> dict[str, Any]:
        """Options of `fit` whose validation sees the features too, where it is given as arrays."""
        held_out = options.get("validation_data")
        if joined.head is None or not isinstance(held_out, tuple):
            return options
        x = held_out[0]
        if not isinstance(x, np.ndarray):
            return options
        batch = {"image": x, "index": np.arange(len(x), dtype="int32")}
        if not self._with_features(batch, cache.Arrays(x, self._batch_size)):
            return options
        return {**options, "validation_data": (batch, *held_out[1:])}

    def _with_features(self, batch: dict[str, Any], images: cache.Arrays) -> bool:
        """Add the features of the frozen part to a batch, if memory holds them."""
        if self._features is None or not cache.fits(self._features, len(batch["index"])):
            return False
        # always in memory and exact: how the teacher's answers are kept is said for them alone
        stored = cache.Cache().open(self._features, images)
        batch[FEATURES] = dict(stored.arrays())
        if not self._sees:
            del batch["image"]  # nothing looks at it any more
        return True


def _is_constant(source: TeacherSource, name: str) -> bool:
    for tap, shape in source.shapes.items():
        if None in shape[1:]:
            log.warning("The %s runs at every step: its tap %r has no fixed shape.", name, tap)
            return False
    return True
