"""Look up rows of arrays inside a `tf.data` pipeline, without a copy of large arrays.

A tensor made of an array is a second array of its size. NumPy reads the rows of a batch from the
caller's own array, which may also be mapped from a file. For small arrays the copy costs nothing,
and TensorFlow is faster.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

COPIED_BYTES = 64 * 2**20  # of all arrays of a pipeline
PREFETCHED_BYTES = 32 * 2**20
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
    small = sum(array.nbytes for array in there) <= COPIED_BYTES
    rows_of = _by_tensorflow(there) if small else _by_numpy(there)

    def rows_at(index):
        found = iter(rows_of(tf.convert_to_tensor(index)))
        flat = [None if array is None else next(found) for array in places]
        return keras.tree.pack_sequence_as(arrays, flat)

    return rows_at


Rows = Callable[[tf.Tensor], list[tf.Tensor]]


def _by_tensorflow(arrays: list[np.ndarray]) -> Rows:
    with tf.device("CPU"):  # the pipeline runs there; a GPU's memory is for the models
        tensors = [tf.convert_to_tensor(array, _kind(array)) for array in arrays]
    return lambda index: [tf.gather(tensor, index) for tensor in tensors]


def _by_numpy(arrays: list[np.ndarray]) -> Rows:
    kinds = [_kind(array) for array in arrays]

    def look_up(index):
        found = [array[index] for array in arrays]
        return [
            rows.astype(kind.as_numpy_dtype, copy=False) if rows.dtype == np.float64 else rows
            for rows, kind in zip(found, kinds, strict=True)
        ]

    def rows_of(index):
        found = tf.numpy_function(look_up, [index], kinds, stateful=False)
        for rows, array in zip(found, arrays, strict=True):
            rows.set_shape(index.shape.concatenate(array.shape[1:]))
        return found

    return rows_of


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
