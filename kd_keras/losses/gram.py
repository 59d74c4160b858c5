"""Formulas on products of probabilities, between the examples of a batch and between classes."""

from keras import ops

from kd_keras.losses.numeric import alike, at_least_float32, presence


def batch_gram_difference(student_logits, teacher_logits, *, temperature, present=None):
    """Difference of the products between the examples' probabilities: `|P P^T - Q Q^T|^2 / N`.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        temperature: positive scalar, for both.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

    Returns:
        Shape `(batch,)`: each example's share is its own row. Zero where the products agree.

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
    """Difference of the products between the classes' probabilities: `|P^T P - Q^T Q|^2 / C`.

    The products are summed over the batch, not averaged: the term grows with the square of the
    batch size.

    Args:
        student_logits, teacher_logits, temperature, present: as in `batch_gram_difference`.

    Returns:
        Shape `(batch,)`: each example's share of the difference. Shares may be negative; their mean
        is not. Zero where the products agree.

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
    """Return the share of examples whose largest probability is at most the median of the batch,
    and the share of classes whose summed probability is at most the median of the classes.

    Each is about one half, and more if the number is odd. In the authors' code they are the means
    of masks that were meant to select examples and classes, but do not.

    Args:
        teacher_logits: shape `(batch, classes)`, unnormalised.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

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
    """Return the share of the present values that are no larger than their median."""
    count = ops.maximum(ops.sum(there), 1)
    below = ops.sum(
        ops.cast(values[None, :] < values[:, None], there.dtype) * there[None, :], axis=1
    )
    return ops.sum(there * ops.cast(2 * below < count, there.dtype)) / count


def _probabilities(student_logits, teacher_logits, temperature, present):
    """Return both sides' probabilities, zero for absent examples, and the number of examples."""
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    there, count = presence(present, student_logits)
    q, p = (ops.softmax(z / temperature) * there[:, None] for z in (student_logits, teacher_logits))
    return q, p, count
