"""Shared helpers of the formulas: dtypes, absent examples, and roots with finite gradients."""

import keras
import numpy as np
from keras import ops

TINY = 1e-12  # norms below it count as zero, as in the code of the papers


def at_least_float32(x):
    """Convert `x` to a tensor of float32, or of float64 if it already is one."""
    x = ops.convert_to_tensor(x)
    exact = keras.backend.standardize_dtype(x.dtype) in ("float32", "float64")
    return x if exact else ops.cast(x, "float32")


def alike(student, teacher):
    """Convert both to tensors of one dtype: the wider of the two, and never below float32."""
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    wider = keras.backend.result_type(student.dtype, teacher.dtype)
    return ops.cast(student, wider), ops.cast(teacher, wider)


def safe_sqrt(x):
    """Return the square root, or zero with a gradient of zero where `x` is not above zero."""
    positive = x > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, x, 1)), 0)


def varies(x, centred, axis):
    """Return True where `x` varies along `axis` by more than rounding; keep the axis."""
    spread = ops.sum(ops.square(centred), axis=axis, keepdims=True)
    return spread > 1e-12 * ops.sum(ops.square(x), axis=axis, keepdims=True)


def unit(x, axis=-1):
    """Scale `x` to a Euclidean length of 1 along `axis`; return zero where it is (nearly) zero.

    The gradient is zero there too, and not infinite.
    """
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    long = squares > TINY**2
    return ops.where(long, x / ops.sqrt(ops.where(long, squares, 1)), 0)


def rows(features):
    """Flatten features of any shape to one vector per example, shape `(batch, size)`."""
    if len(features.shape) == 2:
        return features
    size = 1
    for side in features.shape[1:]:
        size *= side
    return ops.reshape(features, (-1, size))


def presence(present, like):
    """Return 1 for each example that takes part and 0 for others, and their number, at least 1.

    Args:
        present: shape `(batch,)` or `(batch, 1)`, zero or False for examples to leave out; None
            leaves out none.
        like: a tensor whose batch size and dtype are used.
    """
    if present is None:
        there = ops.ones_like(ops.reshape(like, (ops.shape(like)[0], -1))[:, 0])
    else:
        flat = ops.reshape(ops.convert_to_tensor(present), (-1,))
        there = ops.cast(ops.not_equal(flat, ops.zeros_like(flat)), like.dtype)
    return there, ops.maximum(ops.sum(there), 1)


def same_class(labels, there):
    """Return 1 where both examples are present and of one class, shape `(batch, batch)`."""
    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), there.dtype)
    return same * there[:, None] * there[None, :]


def averaged(features, size: tuple[int, ...]):
    """Average maps down to a height and width, or over all places to a vector if `size` is `()`.

    A side that is not a multiple of the new one is cut into windows that overlap by one place.

    Example:
        >>> import numpy as np
        >>> averaged(np.arange(4.0).reshape(1, 2, 2, 1), (1, 1)).numpy().ravel().tolist()
        [1.5]
    """
    if len(features.shape) == 2 or tuple(features.shape[1:3]) == size:
        return features
    if not size:
        return ops.mean(features, axis=(1, 2))
    down, across = (
        ops.convert_to_tensor(windows(n, few), dtype=features.dtype)
        for n, few in zip(features.shape[1:3], size, strict=True)
    )
    return ops.einsum("ih,nhwc,jw->nijc", down, features, across)


def windows(places: int, few: int) -> np.ndarray:
    """Return a matrix, `(few, places)`, each row of which averages the places of a window."""
    matrix = np.zeros((few, places))
    for k in range(few):
        start, end = k * places // few, -(-(k + 1) * places // few)
        matrix[k, start:end] = 1 / (end - start)
    return matrix
