"""Formulas on the products of probabilities: of the examples of a batch, and of the classes."""

from keras import ops

from kd_keras.losses.numeric import alike, at_least_float32, presence


def batch_gram_difference(student_logits, teacher_logits, *, temperature, present=None):
    """How much the products of the examples' probabilities differ: `|P P^T - Q Q^T|^2 / N`.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        temperature: positive scalar, of both.
        present: shape `(batch,)`, zero for examples that are left out; None for none.

    Returns:
        Shape `(batch,)`: each example's share, its own row. Zero where the products agree.

    Source: Jin, Wang and Lin, *Multi-Level Logit Distillation* (2023), after the authors' code.

    Example:
        >>> import numpy as np
        >>> z = np.array([[2.0, 1.0], [0.0, 3.0]])
        >>> float(np.mean(batch_gram_difference(z, z, temperature=4.0)))
        0.0
    """
    q, p, _ = _probabilities(student_logits, teacher_logits, temperature, present)
    apart = ops.matmul(p, ops.transpose(p)) - ops.matmul(q, ops.transpose(q))
    return ops.sum(ops.square(apart), axis=1)


def class_gram_difference(student_logits, teacher_logits, *, temperature, present=None):
    """How much the products of the classes' probabilities differ: `|P^T P - Q^T Q|^2 / C`.

    The products are added over the batch, not averaged: the term grows with its square.

    Args:
        student_logits, teacher_logits, temperature, present: as in `batch_gram_difference`.

    Returns:
        Shape `(batch,)`: each example's share, what it adds to the difference. Shares may be
        negative; their mean is not. Zero where the products agree.

    Source: Jin, Wang and Lin, *Multi-Level Logit Distillation* (2023), after the authors' code.

    Example:
        >>> import numpy as np
        >>> even, sure = np.zeros((1, 2)), np.array([[99.0, 0.0]])
        >>> class_gram_difference(even, sure, temperature=1.0).numpy().tolist()
        [0.375]
    """
    q, p, count = _probabilities(student_logits, teacher_logits, temperature, present)
    apart = ops.matmul(ops.transpose(p), p) - ops.matmul(ops.transpose(q), q)
    added = ops.sum(ops.matmul(p, apart) * p - ops.matmul(q, apart) * q, axis=1)
    return added * count / apart.shape[0]


def unsure_shares(teacher_logits, *, present=None):
    """Of the examples of a batch, the share of which the teacher is no surer than of the middle
    one; and of the classes, the share that it names no more often than the middle one.

    About a half each, more where the number is odd. They stand in the authors' code as the means of
    masks that were meant to choose examples and classes, and do not.

    Args:
        teacher_logits: shape `(batch, classes)`, unnormalised.
        present: shape `(batch,)`, zero for examples that are left out; None for none.

    Returns:
        Two scalars.

    Example:
        >>> import numpy as np
        >>> z = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
        >>> [round(float(share), 4) for share in unsure_shares(z)]
        [0.5, 0.6667]
    """
    p = ops.softmax(at_least_float32(teacher_logits))
    there, _ = presence(present, p)
    classes = ops.sum(p * there[:, None], axis=0)
    return _lower_half(ops.max(p, axis=1), there), _lower_half(classes, ops.ones_like(classes))


def _lower_half(values, there):
    """The share of the values that are no larger than their median, among those that are there."""
    count = ops.maximum(ops.sum(there), 1)
    below = ops.sum(
        ops.cast(values[None, :] < values[:, None], there.dtype) * there[None, :], axis=1
    )
    return ops.sum(there * ops.cast(2 * below < count, there.dtype)) / count


def _probabilities(student_logits, teacher_logits, temperature, present):
    """Of student and teacher, zero for the absent; and how many examples there are."""
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    there, count = presence(present, student_logits)
    q, p = (ops.softmax(z / temperature) * there[:, None] for z in (student_logits, teacher_logits))
    return q, p, count
