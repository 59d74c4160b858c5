"""What may be learned from: numbers, labels, weights. Arrays are checked whole, pipelines by batch.

A label outside the classes would be learned as no label at all, and NaN would be found in every
weight a step later; so both are refused where they come in, with the first of them.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras import losses

# How far the sum of a distribution may be from 1. A hundredth leaves room for rows of float16 and
# bfloat16 and for those that a person rounded, and none for counts, votes or logits.
SUM_TOLERANCE = 0.01
NEGATIVE = -1e-6  # what rounding makes of zero
BATCH = "a batch of the pipeline"
CHUNK = 1024  # examples looked at together, so that a large array needs no second one


def as_array(given: Any, name: str, what: str) -> np.ndarray:
    """Whatever is array-like, as a numpy array of numbers.

    Lists, tuples, tensors, columns and tables of pandas, rows that are arrays themselves. float64
    becomes Keras' float type, as in Keras' own `fit`.

    Args:
        given: of one row per example.
        name: the argument's, for an error.
        what: it must hold, for an error.

    Raises:
        ValueError: for strings and whatever else is no number, and for rows that differ in shape.
    """
    try:
        array = np.asarray(given)
        if array.dtype.kind == "O" and array.ndim == 1 and len(array):
            # a column of rows that are arrays, or of numbers among which some are missing
            several = isinstance(array[0], (np.ndarray, list, tuple))
            array = np.asarray(list(array)) if several else array
    except (TypeError, ValueError) as error:
        raise _not_numbers(name, what, f"{type(given).__name__} of unlike rows: {error}") from error
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
        received = f"{array.flat[0].item()!r}" if array.size else f"no {array.dtype.name}"
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
        finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        bad.extend(at + np.flatnonzero(~finite))
    if bad:
        raise ValueError(
            f"{name} must hold finite numbers. Received: {_count(bad, array, 'examples')} with "
            f"NaN or infinity, the first of them at position {bad[0]}"
        )


def as_labels(given: Any, classes: int, name: str = "`y`") -> np.ndarray:
    """Labels as int32 class numbers, or as distributions in Keras' float type, and checked.

    Args:
        given: class numbers, shape `(n,)` or `(n, 1)`, or one distribution per example, shape
            `(n, classes)`; of any type that holds numbers.
        classes: how many there are.
        name: the argument's, for an error.

    Raises:
        ValueError: for what is no label: a number that names no class, a row with other entries
            than classes, with negative ones, or that does not sum to 1.

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
    """Raise `ValueError` where an entry is no whole number from 0 to `classes - 1`."""
    flat = labels.reshape(-1)
    fitting = (flat >= 0) & (flat < classes) & (flat == np.floor(flat))  # NaN is none of these
    bad = np.flatnonzero(~fitting)
    if len(bad):
        raise ValueError(
            f"{name} must hold class numbers from 0 to {classes - 1}, the student's classes. "
            f"Received: {_count(bad, flat, 'labels')} that name no class, the first of them "
            f"{flat[bad[0]]:g} at position {bad[0]}"
        )


def check_distributions(labels: np.ndarray, classes: int, name: str) -> None:
    """Raise `ValueError` where a row is no distribution over the classes."""
    if labels.shape[1:] != (classes,):
        raise ValueError(
            f"{name} holds distributions over {labels.shape[-1]} classes, the student has "
            f"{classes}. Received: labels of shape {labels.shape}"
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
            f"none, the first of them {first}, sum {sums[bad[0]]:.4g}, at position {bad[0]}"
        )


def as_weights(given: Any, name: str = "`sample_weight`") -> np.ndarray:
    """Weights of the examples, in Keras' float type, and checked.

    Raises:
        ValueError: for weights that are not finite or negative: they would make a loss larger. And
            for more than one per example.
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
    """Raise `ValueError` for the labels or weights of a pipeline's batch; None is not looked at."""
    if labels is not None:
        as_labels(labels, classes, f"`y` of {BATCH}")
    if weights is not None:
        as_weights(weights, f"`sample_weight` of {BATCH}")


def are_fine(labels: tf.Tensor | None, weights: tf.Tensor | None, classes: int) -> tf.Tensor:
    """Whether `check_batch` would say nothing, as a bool tensor: the same rules in a graph."""
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
