"""A transfer set that is somebody's `tf.data` pipeline, in whatever order it comes."""

import functools

import numpy as np
import tensorflow as tf

from kd_keras.cache.transfer import Batch, TransferSet, pixel_fingerprints
from kd_keras.utils.files import fingerprint

CHANGED = (
    "An image of the pipeline is not among those that the teacher answered: the pipeline has "
    "changed, augments at random, or leaves out other images at every pass, as shuffle(...) "
    "before batch(..., drop_remainder=True) does. kd_keras.cache.attach(augmentation=..., "
    "views=K) on the images before they are augmented makes augmentation a function of the "
    "example; attach before you shuffle, batch and repeat."
)


class ChangedImages(ValueError):
    """A pipeline gave other images than in the pass before."""


class Stream(TransferSet):
    """The images of a `tf.data` pipeline, found again by their pixels.

    The order does not matter, and equal images share a row.

    Args:
        dataset: finite; yields batches of images alone, shape `(n, ...)`.
        fingerprint: of the content, if it is known: a name that you change whenever the images
            change. None takes it from the pixels, in a pass over the whole pipeline.
        name: for people.

    Raises:
        ValueError: for a pipeline that repeats for ever.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> images = tf.data.Dataset.from_tensor_slices(np.arange(6, dtype="uint8")[:, None])
        >>> Stream(images.batch(4)).key == Stream(images.shuffle(6).batch(2)).key
        True
    """

    def __init__(
        self, dataset: tf.data.Dataset, *, fingerprint: str | None = None, name: str = "pipeline"
    ):
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`dataset` repeats for ever, so that the teacher would have no end. Attach first, "
                "and repeat what comes back."
            )
        self.name = name
        self._dataset, self._given = dataset, fingerprint
        self._first: tf.Tensor | None = None

    @functools.cached_property
    def key(self) -> str:  # type: ignore[override]
        spec = self._dataset.element_spec
        kind = [spec.dtype.name, list(spec.shape[1:])]
        if self._given is not None:
            return fingerprint("named", self._given, kind)
        return fingerprint("pipeline", list(self._content), kind)

    @property
    def count(self) -> int | None:  # type: ignore[override]
        return None if self._given is not None else self._content[1]

    @functools.cached_property
    def _content(self) -> tuple[int, int]:
        """The sum of all fingerprints, and how many they are: whatever the order."""
        total, count = 0, 0
        for images in self.batches():
            if self._first is None:
                self._first = images
            total, count = _add(total, count, pixel_fingerprints(images).numpy())
        return total, count

    def batches(self, start=0):
        yield from self._dataset

    def remaining(self, stored):
        """All is gone through again, since the order may be another; what is stored is left out.

        Raises:
            ChangedImages: this pass gave other images than the one that the key was taken from.
        """
        seen, content = _Seen(stored), (0, 0)
        for images in self.batches():
            pixels = pixel_fingerprints(images).numpy()
            content = _add(*content, pixels)
            new = seen.first_time(pixels)
            if new.any():
                yield Batch(images, pixels, new)
        if self._given is None and content != self._content:
            raise ChangedImages(CHANGED)

    def first(self, count):
        if self._first is None:
            self._first = super().first(count)
        return self._first[:count]

    def check_complete(self, count):
        if not count:  # how many there are is another matter: equal images share a row
            raise ValueError("`dataset` yields no image.")

    def places(self, pixels, stored):
        order = np.argsort(stored)
        found = np.searchsorted(stored, pixels, sorter=order)
        return order[np.minimum(found, len(stored) - 1)]


def _add(total: int, count: int, pixels: np.ndarray) -> tuple[int, int]:
    return (total + int(pixels.view(np.uint64).sum())) % 2**64, count + len(pixels)


class _Seen:
    """A growing set of fingerprints at 8 bytes each: sorted runs, merged as they get alike."""

    def __init__(self, pixels: np.ndarray):
        self._runs = [np.sort(pixels)]

    def first_time(self, pixels: np.ndarray) -> np.ndarray:
        """Which of `pixels` were never asked before, a bool each; from now on all were."""
        new = np.zeros(len(pixels), bool)
        new[np.unique(pixels, return_index=True)[1]] = True
        for run in self._runs:
            if len(run):
                near = np.minimum(np.searchsorted(run, pixels), len(run) - 1)
                new &= run[near] != pixels
        self._runs.append(np.sort(pixels[new]))
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")
        return new
