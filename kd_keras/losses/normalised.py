"""The formula on features normalised over the batch."""

from keras import ops

from kd_keras.losses.numeric import alike, presence, rows

_VARIANCE = 1e-4  # added to the variance, as in the authors' code
_SUM = 1e-5  # added within the logarithm, which is infinite for features that agree


def normalised_log_distance(student, teacher, *, exponent, present=None):
    """The logarithm of `sum |A - B|^a` over the batch and all entries, where `A` and `B` are the
    features, each entry normalised to mean 0 and variance 1 over the batch.

    It is a soft maximum: the larger a difference, the larger its share of the gradient. Negative
    values are normal. It grows by `ln 2` if the batch is twice as large.

    Args:
        student, teacher: of the same shape `(batch, ...)`; the student's after its projection.
        exponent: scalar of at least 1.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

    Returns:
        Shape `(batch,)`: the value, the same for every example. Its minimum is `ln 1e-5`, where the
        normalised features agree.

    Source: Miles and Mikolajczyk, *Understanding the Role of the Projector in Knowledge
    Distillation* (2024), after the authors' code for ImageNet, which has no 1e-5.

    Example:
        >>> import numpy as np
        >>> student, teacher = np.array([[0.0], [2.0]]), np.array([[9.0], [1.0]])
        >>> loss = normalised_log_distance(student, teacher, exponent=4.0)
        >>> np.round(loss, 2).tolist()  # -1, 1 against 1, -1: ln (2^4 + 2^4)
        [3.47, 3.47]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    there, count = presence(present, student)
    there = there[:, None]

    def normalised(features):
        mean = ops.sum(features * there, axis=0, keepdims=True) / count
        centred = (features - mean) * there
        variance = ops.sum(ops.square(centred), axis=0, keepdims=True) / count
        return centred / ops.sqrt(variance + _VARIANCE)

    apart = ops.absolute(normalised(student) - normalised(teacher))
    value = ops.log(ops.sum(ops.power(apart, exponent)) + _SUM)
    return value * ops.ones_like(there[:, 0])
