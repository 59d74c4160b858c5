"""Formulas of distillation: pure functions, student first, one number per example.

None of them reduces over the batch, weighs, or holds state. They compute in the dtype they are
given, but never below float32.
"""

import keras
from keras import ops


def softened_kl(student_logits, teacher_logits, *, temperature):
    """KL(teacher || student) of the softened distributions, times the temperature squared.

    The factor keeps the gradient's size when the temperature changes: with respect to the
    student's logits it is `temperature * (softmax(student / T) - softmax(teacher / T))`.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        temperature: positive scalar; larger is softer.

    Returns:
        Shape `(batch,)`. Zero where the softened distributions agree.

    Source: Hinton, Vinyals and Dean (2015), section 2.

    Example:
        >>> import numpy as np
        >>> from kd_keras import losses
        >>> float(losses.softened_kl(np.zeros((1, 2)), np.log([[3.0, 1.0]]), temperature=1.0)[0])
        0.1308...
    """
    log_p = ops.log_softmax(_at_least_float32(teacher_logits) / temperature)
    log_q = ops.log_softmax(_at_least_float32(student_logits) / temperature)
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def cross_entropy(labels, logits):
    """Cross-entropy of logits against class numbers or soft labels.

    Args:
        labels: class numbers, integers of shape `(batch,)` or `(batch, 1)`; or distributions,
            shape `(batch, classes)`.
        logits: shape `(batch, classes)`, unnormalised.

    Returns:
        Shape `(batch,)`.
    """
    logits = _at_least_float32(logits)
    log_q = ops.log_softmax(logits)
    if are_class_numbers(labels, logits):
        labels = ops.one_hot(
            ops.reshape(ops.cast(labels, "int32"), (-1,)), logits.shape[-1], dtype=logits.dtype
        )
    return -ops.sum(ops.cast(labels, logits.dtype) * log_q, axis=-1)


def are_class_numbers(labels, logits) -> bool:
    """Whether `labels` hold class numbers, and not one distribution an example."""
    shape = tuple(labels.shape)
    return len(shape) < len(logits.shape) or (shape[-1] == 1 and logits.shape[-1] != 1)


def _at_least_float32(x):
    x = ops.convert_to_tensor(x)
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x
