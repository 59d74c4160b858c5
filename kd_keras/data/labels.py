"""Check what a model learns from: numbers, labels and weights, in arrays and in pipelines.

Arrays are checked as a whole, pipelines by batch. A label outside the classes would count as no
label at all, and NaN would be in every weight a step later. So both are refused before training,
with an error that names the first of them.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras import losses

# The sum of a distribution may differ from 1 by this. A hundredth leaves room for rows of float16
# and bfloat16 and for rows rounded by hand, but not for counts, votes or logits.
SUM_TOLERANCE = 0.01
NEGATIVE = -1e-6  # rounding may turn zero into this
BATCH = "a batch of the pipeline"
CHUNK = 1024  # examples checked at a time, so that a large array needs no second one


def as_array(given: Any, name: str, what: str) -> np.ndarray:
    """Return anything array-like as a numpy array of numbers.

    This accepts lists, tuples, tensors, columns and tables of pandas, and rows that are arrays
    themselves. float64 becomes Keras' float type, as in Keras' own `fit`.

    Args:
        given: the data, with one row per example.
        name: the name of the argument, for the error message.
        what: the required content, for the error message.

    Raises:
        ValueError: for strings and anything else that is not a number, and for rows that differ
            in shape.
    """
    try:
        array = np.asarray(given)
        if array.dtype.kind == "O" and array.ndim == 1 and len(array):
            # a column of arrays, or of numbers with some missing
            several = isinstance(array[0], (np.ndarray, list, tuple))
            array = np.asarray(list(array)) if several else array
    except (TypeError, ValueError) as error:
        raise _not_numbers(
            name, what, f"{type(given).__name__} of unequal rows: {error}"
        ) from error
    if array.dtype.kind == "O":
        strange = next((v for v in array.flat if isinstance(v, (str, bytes))), None)
        if strange is not None:
            raise _not_numbers(name, what, f"{strange!r}")
        try:
            array = array.astype("float64")
        except (TypeError, ValueError) as error:
            raise _not_numbers(name, what, f"{type(array.flat[0]).__name__}: {error}") from error
    if array.dtype.kind == "V" and "float" in array.dtype.name:  # bfloat16
        array = array.astype("float32")
    if array.dtype.kind not in "buif":
        received = (
            f"{array.flat[0].item()!r}" if array.size else f"an empty {array.dtype.name} array"
        )
        raise _not_numbers(name, what, received)
    if array.ndim == 0:
        raise _not_numbers(name, what, f"a single number, {array.item()}")
    return array.astype(keras.backend.floatx()) if array.dtype == np.float64 else array


def _not_numbers(name: str, what: str, received: str) -> ValueError:
    return ValueError(f"{name} must hold {what}. Received: {received}")


def check_finite(array: np.ndarray, name: str) -> None:
    """Raise `ValueError` for an array, one row per example, that holds NaN or infinity."""
    if array.dtype.kind != "f":
        return
    bad: list[int] = []
    for at in range(0, len(array), CHUNK):
        rows = array[at : at + CHUNK]
        finite = np.isfinite(rows).reshape(len(rows), -1)
        if not finite.all():  # ten times as fast as by row
            bad.extend(at + np.flatnonzero(~finite.all(axis=1)))
    if bad:
        raise ValueError(
            f"{name} must hold finite numbers. Received: {_count(bad, array, 'examples')} with "
            f"NaN or infinity, the first of them at position {bad[0]}"
        )


def as_labels(given: Any, classes: int, name: str = "`y`") -> np.ndarray:
    """Check labels, and return int32 class numbers or distributions in Keras' float type.

    Args:
        given: class numbers, shape `(n,)` or `(n, 1)`, or one distribution per example, shape
            `(n, classes)`; of any numeric type.
        classes: the number of classes.
        name: the name of the argument, for the error message.

    Raises:
        ValueError: for a number that names no class, or a row whose length is not `classes`, that
            has negative entries or that does not sum to 1.

    Example:
        >>> as_labels([2.0, 0.0], classes=3)
        array([2, 0], dtype=int32)
        >>> as_labels([[True, False]], classes=2)
        array([[1., 0.]], dtype=float32)
    """
    what = (
        f"class numbers from 0 to {classes - 1}, the student's classes, or one distribution over "
        "them per example"
    )
    if isinstance(given, dict):
        raise _not_numbers(name, what, f"a dict of {sorted(map(str, given))}")
    labels = as_array(given, name, what)
    if _are_numbers(labels, classes):
        check_numbers(labels, classes, name)
        return labels.astype("int32")
    check_distributions(labels, classes, name)
    return labels.astype(keras.backend.floatx())


def _are_numbers(labels, classes: int) -> bool:
    return losses.are_class_numbers(labels, np.empty((1, classes)))


def check_numbers(labels: np.ndarray, classes: int, name: str) -> None:
    """Raise `ValueError` if an entry is not an integer from 0 to `classes - 1`."""
    flat = labels.reshape(-1)
    fitting = (flat >= 0) & (flat < classes) & (flat == np.floor(flat))  # all False for NaN
    bad = np.flatnonzero(~fitting)
    if len(bad):
        raise ValueError(
            f"{name} must hold class numbers from 0 to {classes - 1}, the student's classes. "
            f"Received: {_count(bad, flat, 'labels')} that name no class, the first of them "
            f"{flat[bad[0]]:g} at position {bad[0]}"
        )


def check_distributions(labels: np.ndarray, classes: int, name: str) -> None:
    """Raise `ValueError` if a row is not a distribution over the classes."""
    if labels.shape[1:] != (classes,):
        raise ValueError(
            f"{name} holds distributions over {labels.shape[-1]} classes, but the student "
            f"has {classes}. Received: labels of shape {labels.shape}"
        )
    rows = labels.astype("float64")
    sums = rows.sum(axis=1)
    fitting = (rows >= NEGATIVE).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE)
    bad = np.flatnonzero(~fitting)
    if len(bad):
        first = np.array2string(rows[bad[0]], precision=3, threshold=6, edgeitems=2)
        raise ValueError(
            f"{name} must hold one distribution per example: no number is negative, and each row "
            f"sums to 1 (within {SUM_TOLERANCE}). Received: {_count(bad, rows, 'rows')} that are "
            f"not distributions, the first of them {first}, sum {sums[bad[0]]:.4g}, at position "
            f"{bad[0]}"
        )


def as_weights(given: Any, name: str = "`sample_weight`") -> np.ndarray:
    """Check the weights of the examples, and return them in Keras' float type.

    Raises:
        ValueError: for weights that are infinite, NaN or negative (which would make a loss larger),
            and for more than one per example.
    """
    weights = as_array(given, name, "one number per example")
    if weights.size != len(weights):
        raise ValueError(
            f"{name} must hold one number per example. Received: shape {weights.shape}"
        )
    check_weights(weights, name)
    return weights.astype(keras.backend.floatx())


def check_weights(weights: np.ndarray, name: str) -> None:
    """Raise `ValueError` for weights that are negative, infinite or NaN."""
    flat = weights.reshape(-1)
    bad = np.flatnonzero(~(np.isfinite(flat) & (flat >= 0)))
    if len(bad):
        raise ValueError(
            f"{name} must hold finite numbers that are not negative. Received: "
            f"{_count(bad, flat, 'weights')} that are not, the first of them {flat[bad[0]]:g} at "
            f"position {bad[0]}"
        )


def check_class_weight(class_weight: dict | None) -> None:
    """Raise `ValueError` for a class whose weight is negative, infinite or NaN."""
    for number, weight in (class_weight or {}).items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(
                "`class_weight` must hold finite numbers that are not negative. Received: "
                f"{weight} for class {number}"
            )


def _count(bad, of, things: str) -> str:
    return f"{len(bad)} of {len(of)} {things}"


def check_batch(labels: Any, weights: Any, classes: int) -> None:
    """Raise `ValueError` for bad labels or weights of a pipeline's batch; None is not checked."""
    if labels is not None:
        as_labels(labels, classes, f"`y` of {BATCH}")
    if weights is not None:
        as_weights(weights, f"`sample_weight` of {BATCH}")


def are_fine(labels: tf.Tensor | None, weights: tf.Tensor | None, classes: int) -> tf.Tensor:
    """Return a bool tensor, True if `check_batch` would not raise: the same rules in a graph."""
    fine = tf.constant(True)
    if labels is not None and _are_numbers(labels, classes):
        numbers = labels if labels.dtype.is_floating else tf.cast(labels, tf.int64)
        inside = (numbers >= 0) & (numbers < classes)
        if numbers.dtype.is_floating:
            inside &= numbers == tf.floor(numbers)
        fine &= tf.reduce_all(inside)
    elif labels is not None:
        rows = tf.cast(labels, tf.float32)
        near = tf.abs(tf.reduce_sum(rows, axis=-1) - 1.0) <= SUM_TOLERANCE
        fine &= tf.reduce_all(near) & tf.reduce_all(rows >= NEGATIVE)
        fine &= tf.shape(rows)[-1] == classes
    if weights is not None:
        weights = tf.cast(weights, tf.float32)
        fine &= tf.reduce_all((weights >= 0) & tf.math.is_finite(weights))
    return fine
