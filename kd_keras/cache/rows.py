"""Opened rows: gathered by number inside an input pipeline, or found by an image's pixels."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras.cache.encoding import Float32
from kd_keras.cache.request import Column
from kd_keras.cache.transfer import CHANGED, pixel_fingerprints

BLOCK = 8192  # rows decoded at a time when all are requested
OTHER_PIXELS = (
    "The pixels of an example are not those the teacher was run on: the order, augmentation, seed "
    "or type of the images has changed."
)
OUT_OF_RANGE = "An `index` or a `view` of the batch is outside the stored rows."

Parts = Mapping[tuple[str, str], np.ndarray]


class Stored:
    """The teacher's predictions, one row per image. Made by `Cache.open`.

    Attributes:
        count: the number of rows.
        views: the number of views of every example; example i in view v is row
            `v * (count / views) + i`.
        pixels: int64, shape `(count,)`: fingerprints of the images; None if not known.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        parts: Parts,
        pixels: np.ndarray | None,
        views: int = 1,
    ):
        self.columns, self.pixels, self.views = tuple(columns), pixels, views
        self.count = len(next(iter(parts.values())))
        self._parts = dict(parts)

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Dict from tap to shape, with None for the batch."""
        return {column.tap: (None, *column.shape) for column in self.columns}

    def gather(self, rows) -> dict[str, tf.Tensor]:
        """Gather rows by number; a graph function, for `Dataset.map`.

        Args:
            rows: integers, shape `(n,)`.

        Returns:
            dict from tap to tensor, float32 for a teacher's predictions, shape `(n, ...)`; the
            static shape is known.

        Raises:
            tf.errors.InvalidArgumentError: for a number outside the rows.
        """
        rows = tf.cast(rows, tf.int64)
        taken = self._take(rows)
        views = {}
        for column in self.columns:
            parts = {name: taken[column.tap, name] for name in column.parts}
            view = column.storage.decode(parts, column.shape)
            views[column.tap] = tf.ensure_shape(view, (*rows.shape[:1], *column.shape))
        return views

    def _take(self, rows: tf.Tensor) -> dict[tuple[str, str], tf.Tensor]:
        raise TypeError(f"{type(self).__name__} must override `_take`.")

    def at(self, batch: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Return the rows of a batch that holds `index` and, with several views, `view`.

        A view beyond the last starts again at the first. If the batch holds `image` too, its pixels
        are compared with those of the stored rows.

        Raises:
            ValueError: for a batch without `index` or `view`.
            tf.errors.InvalidArgumentError: if the pixels are not those of the row, or if there is
                no such row.
        """
        needed = ("index",) if self.views == 1 else ("index", "view")
        if not isinstance(batch, Mapping) or any(name not in batch for name in needed):
            raise ValueError(
                "The dataset must yield ({'image': ..., "
                f"{', '.join(f'{name!r}: ...' for name in needed)}}}, ...) in batches, so that "
                f"rows can be joined. Received: {batch}"
            )
        examples, row = self.count // self.views, tf.cast(batch["index"], tf.int64)
        checks = [tf.debugging.Assert(tf.reduce_all((row >= 0) & (row < examples)), [OUT_OF_RANGE])]
        if self.views > 1:
            row += examples * (tf.cast(batch["view"], tf.int64) % self.views)
        with tf.control_dependencies(checks):
            row = tf.identity(row)
        if self.pixels is not None and "image" in batch:
            known = tf.gather(self._pixels, row)
            same = tf.reduce_all(pixel_fingerprints(batch["image"]) == known)
            with tf.control_dependencies([tf.debugging.Assert(same, [OTHER_PIXELS])]):
                row = tf.identity(row)
        return self.gather(row)

    def lookup(self, images) -> tf.Tensor:
        """Find the row numbers of a batch of images by their pixels; a graph function.

        Args:
            images: shape `(n, ...)`, of the type that the teacher saw.

        Returns:
            int64, shape `(n,)`.

        Raises:
            tf.errors.InvalidArgumentError: if an image has no row.
        """
        ordered, rows = self._sorted
        wanted = pixel_fingerprints(images)
        place = tf.searchsorted(ordered, wanted, out_type=tf.int64)
        place = tf.minimum(place, self.count - 1)
        found = tf.reduce_all(tf.gather(ordered, place) == wanted)
        with tf.control_dependencies([tf.debugging.Assert(found, [CHANGED])]):
            return tf.gather(rows, place)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all predictions: dict from tap to float32 array, shape `(count, ...)`."""
        starts = range(0, self.count, BLOCK)
        blocks = [self.gather(range(at, min(at + BLOCK, self.count))) for at in starts]
        return {tap: np.concatenate([block[tap] for block in blocks]) for tap in self.shapes}

    def as_stored(self, tap: str) -> dict[str, np.ndarray]:
        """Return all rows of a tap as they are stored, by the names of its parts.

        Nothing is copied: the arrays of `Mapped` rows are memory-mapped files, read only.
        """
        return {name: part for (owner, name), part in self._parts.items() if owner == tap}

    def kept(self, column: Column, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows of a tap as they are stored, by the names of its parts."""
        return {name: np.asarray(self._parts[column.tap, name][rows]) for name in column.parts}

    # Tensors on the host, made outside any graph: a graph captures them, and does not copy them.
    @functools.cached_property
    def _pixels(self) -> tf.Tensor:
        return _on_host(self.pixels)

    @functools.cached_property
    def _sorted(self) -> tuple[tf.Tensor, tf.Tensor]:
        if self.pixels is None:
            raise ValueError(
                "These rows hold no pixel fingerprints: they can be found by index only."
            )
        order = np.argsort(self.pixels, kind="stable")
        return _on_host(self.pixels[order]), _on_host(order)


class InMemory(Stored):
    """Rows in memory."""

    def __init__(self, columns, parts, pixels, views=1):
        tensors = {place: _on_host(part) for place, part in parts.items()}
        # the same memory, seen as arrays
        super().__init__(columns, {k: np.asarray(v) for k, v in tensors.items()}, pixels, views)
        self._tensors = tensors
        self._all: dict[str, np.ndarray] | None = None

    def _take(self, rows):
        with tf.device("/CPU:0"):  # a number outside the rows is an error here; on a GPU, zeros
            return {place: tf.gather(tensor, rows) for place, tensor in self._tensors.items()}

    def arrays(self):
        if self._all is None:
            if all(isinstance(column.storage, Float32) for column in self.columns):
                self._all = {tap: part for (tap, _), part in self._parts.items()}
            else:
                self._all = super().arrays()
        return self._all


class Mapped(Stored):
    """Rows in memory-mapped files, of which the system reads only the requested parts."""

    def _take(self, rows):
        places = list(self._parts)
        kinds = [tf.dtypes.as_dtype(part.dtype) for part in self._parts.values()]
        taken = tf.numpy_function(self._read, [rows], kinds, stateful=False)
        taken = tf.nest.flatten(taken)  # outside a graph, a single tensor comes without its list
        for place, tensor in zip(places, taken, strict=True):
            tensor.set_shape((*rows.shape[:1], *self._parts[place].shape[1:]))
        return dict(zip(places, taken, strict=True))

    def _read(self, rows: np.ndarray) -> list[np.ndarray]:
        if rows.size and not (rows.min() >= 0 and rows.max() < self.count):
            raise ValueError(OUT_OF_RANGE)  # numpy would count from the end
        return [np.asarray(part[rows]) for part in self._parts.values()]


def of_arrays(rows: Mapping[str, np.ndarray]) -> InMemory:
    """Return arrays by tap as rows that are found by index alone.

    Raises:
        ValueError: if there is no array, or if their lengths differ.
    """
    arrays = {tap: np.asarray(values, "float32") for tap, values in rows.items()}
    if not arrays or len({len(values) for values in arrays.values()}) != 1:
        raise ValueError("`rows` must hold one array or more, all with one row per example.")
    columns = [Column(tap, values.shape[1:], Float32()) for tap, values in arrays.items()]
    return InMemory(columns, {(tap, "values"): values for tap, values in arrays.items()}, None)


def _on_host(values) -> tf.Tensor:
    with tf.init_scope(), tf.device("/CPU:0"):
        return tf.constant(values)
