"""Transfer sets, the images that a teacher runs on: arrays, a split in views, or a stream."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from kd_keras.data.augmentation import check_images, joined
from kd_keras.data.mixing import viewer
from kd_keras.data.pipeline import reader_of, untuned
from kd_keras.data.task import Split
from kd_keras.utils.checks import positive_int
from kd_keras.utils.files import fingerprint

BATCH = 64  # images per forward pass: large images fit into memory too
PRINTED = 256  # images whose fingerprints are computed at once, in a processor's cache if small


def pixel_fingerprints(images) -> tf.Tensor:
    """Compute one number per image of a batch, from its bytes (FarmHash64).

    Args:
        images: tensor or array, shape `(n, ...)`, of any number type. The type counts: 1 and 1.0
            are different bytes.

    Returns:
        int64, shape `(n,)`, inside a graph as well as outside.

    Example:
        >>> import numpy as np
        >>> same = pixel_fingerprints(np.array([[1, 2], [3, 4], [1, 2]], "uint8")).numpy()
        >>> bool(same[0] == same[2]), bool(same[0] == same[1])
        (True, False)
    """
    images = tf.convert_to_tensor(images)
    pixels = tf.bitcast(tf.fingerprint(images), tf.int64)
    return tf.ensure_shape(pixels, images.shape[:1])


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some images of a transfer set.

    Attributes:
        images: tensor, shape `(n, ...)`.
        pixels: int64 array, shape `(n,)`, their fingerprints.
        new: bool array, shape `(n,)`: True for images that get a row.
    """

    images: tf.Tensor
    pixels: np.ndarray
    new: np.ndarray


class TransferSet:
    """Base of the transfer sets; here, row k is the k-th image.

    Attributes:
        name: for people: shown in messages and by the `cache` command.
        key: made of the content; equal keys mean equal images.
        count: the number of rows, an upper bound if equal images share one; None if not known.
        views: the number of views of every example; example i in view v is row
            `v * (count / views) + i`.
    """

    name: str
    key: str
    count: int | None
    views: int = 1

    def batches(self, start: int = 0) -> Iterator[tf.Tensor]:
        """Yield batches of images from row `start` on, the same at every call."""
        raise TypeError(f"{type(self).__name__} must override `batches`.")

    def remaining(self, stored: np.ndarray) -> Iterator[Batch]:
        """Yield the images that have no row yet, given the fingerprints (int64) of the others."""
        for images in self.batches(len(stored)):
            pixels = pixel_fingerprints(images).numpy()
            yield Batch(images, pixels, np.ones(len(pixels), bool))

    def first(self, count: int) -> tf.Tensor:
        """Return the first images, `count` of them or fewer.

        Raises:
            ValueError: if there is none.
        """
        images = next(self.batches(0), None)
        if images is None:
            raise ValueError(f"The transfer set {self.name!r} holds no images.")
        return images[:count]

    def check_complete(self, count: int) -> None:
        """Refuse a number of rows that cannot be complete.

        Raises:
            ValueError: if the number differs from `count`.
        """
        if count != self.count:
            raise ValueError(
                f"Transfer set {self.name!r} changed. Expected {self.count} images, got {count}."
            )

    def places(self, pixels: np.ndarray, stored: np.ndarray) -> np.ndarray:
        """Return the rows where the first images, with fingerprints `pixels`, would be stored."""
        return np.arange(len(pixels))


class Arrays(TransferSet):
    """The images of an array.

    Args:
        images: array, shape `(n, ...)`.
        batch_size: images per forward pass of the teacher.

    Example:
        >>> import numpy as np
        >>> Arrays(np.zeros((3, 8, 8, 1), "uint8")).count
        3
    """

    name = "arrays"

    def __init__(self, images, batch_size: int = BATCH):
        self._images = np.asarray(images)
        self._batch_size = batch_size
        self.count: int = len(self._images)

    @functools.cached_property
    def key(self) -> str:  # type: ignore[override]
        kind = [self._images.dtype.name, list(self._images.shape)]
        return fingerprint("arrays", kind, self._pixels)

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        """The fingerprints of all images, which are stored with the rows, and make the key."""
        starts = range(0, self.count, PRINTED)
        parts = [pixel_fingerprints(self._images[at : at + PRINTED]).numpy() for at in starts]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def batches(self, start=0):
        for at in range(start, self.count, self._batch_size):
            yield tf.constant(self._images[at : at + self._batch_size])

    def remaining(self, stored):
        at = len(stored)
        for images in self.batches(at):
            pixels = self._pixels[at : at + len(images)]
            at += len(images)
            yield Batch(images, pixels, np.ones(len(pixels), bool))


class SplitViews(TransferSet):
    """The images of a data split, in one or several augmented views.

    The pixels are those of `data.pipeline.Epochs` with the same augmentation and seed, with the
    epoch as view. Files are decoded on demand, many at a time.

    Args:
        split: the examples; files must be unchanged since `fingerprint` was taken.
        fingerprint: of the split's content, such as `f"{task.fingerprint}/train"`.
        augmentation: as in `data.pipeline.Epochs`.
        views: the number of views of every example.
        seed: of the augmentation.
        batch_size: images per forward pass of the teacher.
        name: for people.

    Raises:
        ValueError: for an unknown augmentation, a strength out of range, images that an
            augmentation is not made for, or several views without an augmentation.

    Example:
        >>> import kd_keras as kd
        >>> task = kd.data.load("digits")
        >>> augmented = SplitViews(
        ...     task.train, fingerprint=task.fingerprint, augmentation="shift", views=4)
        >>> augmented.count == 4 * len(task.train)
        True
    """

    def __init__(
        self,
        split: Split,
        *,
        fingerprint: str,
        augmentation: str = "none",
        views: int = 1,
        seed: int = 0,
        batch_size: int = BATCH,
        name: str = "split",
    ):
        augmentation = joined(augmentation)
        check_images(augmentation, split.image_shape)
        self._changing = augmentation != "none"
        check_views(views, augmentation if self._changing else None)
        self._augmentation, self._seed = augmentation, seed
        self._split, self._batch_size = split, batch_size
        self._settings = [fingerprint, len(split), split.image_shape]
        if self._changing:
            self._settings += [augmentation, views, seed]
        self.name, self.views, self.count = name, views, views * len(split)

    @functools.cached_property
    def key(self) -> str:  # type: ignore[override]
        return fingerprint("split", self._settings)

    def batches(self, start=0):
        if self._split.images is not None and not self._changing:
            yield from Arrays(self._split.images, self._batch_size).batches(start)
            return
        numbers = tf.data.Dataset.range(start, self.count)
        if not self._changing:
            read = reader_of(self._split)
            decoded = numbers.batch(self._batch_size).map(read, num_parallel_calls=2)
            yield from untuned(decoded.prefetch(2))
            return
        n = len(self._split)
        view_of = viewer(self._augmentation, self._seed, reader_of(self._split), n)
        # nothing is decided by a tensor's value in Python, and converting takes longer than a pass
        one = tf.autograph.experimental.do_not_convert(lambda row: view_of(row % n, row // n))
        seen = numbers.map(one, num_parallel_calls=tf.data.AUTOTUNE)
        yield from untuned(seen.batch(self._batch_size).prefetch(2))


def check_views(views: int, augmentation: object) -> None:
    """Refuse a number of views that is not positive, or above one without an augmentation."""
    positive_int("views", views)
    if views > 1 and augmentation is None:
        raise ValueError(
            "Without an augmentation all views of an image are the same: leave `views` at 1, or "
            f"name an `augmentation`. Received: views={views}"
        )


CHANGED = (
    "An image of the pipeline is not among those the teacher was run on: the pipeline has "
    "changed, augments at random, or leaves out different images in every pass, as shuffle(...) "
    "before batch(..., drop_remainder=True) does. kd_keras.cache.attach(augmentation=..., "
    "views=K) on the images before they are augmented makes augmentation a function of the "
    "example; attach before you shuffle, batch and repeat."
)


class ChangedImages(ValueError):
    """A pipeline that gave other images than in the pass before."""


class Stream(TransferSet):
    """The images of a `tf.data` pipeline, identified by their pixels.

    The order does not matter, and equal images share a row.

    Args:
        dataset: finite; yields batches of images alone, shape `(n, ...)`.
        fingerprint: a name for the content, to be changed whenever the images change. None takes it
            from the pixels, in a pass over the whole pipeline.
        name: for people.

    Raises:
        ValueError: for a pipeline that repeats forever.

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
                "`dataset` repeats forever, so the teacher would never finish. Attach first, then "
                "repeat the result."
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
        """The sum and the number of all fingerprints, which do not depend on the order."""
        total, count = 0, 0
        for images in self.batches():
            if self._first is None:
                self._first = images
            total, count = _add(total, count, pixel_fingerprints(images).numpy())
        return total, count

    def batches(self, start=0):
        yield from self._dataset

    def remaining(self, stored):
        """Go through all images again, since the order may differ, and leave out stored ones.

        Raises:
            ChangedImages: if this pass gave other images than the one that the key was taken from.
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
        if not count:  # no other number is wrong: equal images share a row
            raise ValueError("`dataset` yields no images.")

    def places(self, pixels, stored):
        order = np.argsort(stored)
        found = np.searchsorted(stored, pixels, sorter=order)
        return order[np.minimum(found, len(stored) - 1)]


def _add(total: int, count: int, pixels: np.ndarray) -> tuple[int, int]:
    return (total + int(pixels.view(np.uint64).sum())) % 2**64, count + len(pixels)


class _Seen:
    """A growing set of fingerprints, 8 bytes each: sorted runs, merged when similar in length."""

    def __init__(self, pixels: np.ndarray):
        self._runs = [np.sort(pixels)]

    def first_time(self, pixels: np.ndarray) -> np.ndarray:
        """Return a bool for each of `pixels`, True at its first occurrence; then add all."""
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
