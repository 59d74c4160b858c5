"""Look up rows of arrays inside a `tf.data` pipeline, without a copy of the arrays.

A tensor made of an array would be a second array of its size. NumPy reads the rows of a batch from
the caller's own array, which may also be mapped from a file.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

PREFETCHED_BYTES = 64 * 2**20
PREFETCHED = 8  # batches


def gatherer(arrays: Any) -> Callable[[tf.Tensor], Any]:
    """Return a graph function from an index, or many, to the rows of arrays.

    Args:
        arrays: an array, or arrays in tuples and dicts; the first axis counts the rows. float64 is
            read as Keras' float type. None stays None.

    Example:
        >>> rows_at = gatherer({"image": np.arange(6).reshape(3, 2), "label": np.arange(3)})
        >>> {name: rows.numpy().tolist() for name, rows in rows_at(tf.constant([2, 0])).items()}
        {'image': [[4, 5], [0, 1]], 'label': [2, 0]}
    """
    places = keras.tree.flatten(arrays)
    there = [np.asanyarray(array) for array in places if array is not None]
    kinds = [_kind(array) for array in there]

    def look_up(index):
        return [
            np.asarray(array[index], None if kind == tf.string else kind.as_numpy_dtype)
            for array, kind in zip(there, kinds, strict=True)
        ]

    def rows_at(index):
        index = tf.convert_to_tensor(index)
        rows = tf.numpy_function(look_up, [index], kinds, stateful=False)
        for row, array in zip(rows, there, strict=True):
            row.set_shape(index.shape.concatenate(array.shape[1:]))
        found = iter(rows)
        flat = [None if array is None else next(found) for array in places]
        return keras.tree.pack_sequence_as(arrays, flat)

    return rows_at


def _kind(array: np.ndarray) -> tf.DType:
    if array.dtype == np.float64:
        return tf.as_dtype(keras.backend.floatx())
    return tf.as_dtype(array.dtype)


def prefetched(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Return batches that are made ahead: `PREFETCHED`, or fewer if they are large."""
    size = 0
    for spec in tf.nest.flatten(dataset.element_spec):
        sides = [batch_size if side is None else side for side in spec.shape or ()]
        size += spec.dtype.size * math.prod(sides)
    return dataset.prefetch(min(PREFETCHED, max(1, PREFETCHED_BYTES // max(size, 1))))
