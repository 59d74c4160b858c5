"""The formula of knowledge review: two maps compared at several resolutions."""

from keras import ops

from kd_keras.losses.numeric import alike, averaged, rows

_SIDES = (4, 2, 1)  # both maps are also compared averaged to these sizes


def hierarchical_difference(student, teacher):
    """The mean squared difference of two maps, at full size and averaged down to 4x4, 2x2 and 1x1.

    Only sizes below that of the maps count. The full maps have the weight 1, the averaged ones in
    order of size 1/2, 1/4 and 1/8; the weighted sum is divided by the sum of the weights.

    Args:
        student, teacher: of the same shape, either maps `(batch, height, width, channels)`, or
            vectors `(batch, size)`, which are not averaged.

    Returns:
        Shape `(batch,)`. Zero where they agree.

    Source: Chen et al., *Distilling Knowledge via Knowledge Review* (2021), with the sizes and the
    weights of the authors' code.

    Example:
        >>> import numpy as np
        >>> map = np.array([3.0, -1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)  # its mean is 1/2
        >>> loss = hierarchical_difference(map, 0 * map)
        >>> round(float(loss[0]), 6)  # (10/4 + 1/2 * 1/4) / (3/2)
        1.75
    """
    student, teacher = alike(student, teacher)
    height = min(student.shape[1:3]) if len(student.shape) == 4 else 1
    total, weights, weight = _mean_square(student - teacher), 1.0, 1.0
    for side in (side for side in _SIDES if side < height):
        weight /= 2
        total += weight * _mean_square(averaged(student - teacher, (side, side)))
        weights += weight
    return total / weights


def _mean_square(apart):
    return ops.mean(ops.square(rows(apart)), axis=-1)
