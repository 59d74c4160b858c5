"""Soft targets in two parts: the true class against the rest, and the other classes alone."""

from keras import ops

from kd_keras.losses.numeric import alike
from kd_keras.losses.response import distributions

_OUT = -1e30  # the logit of a class that is left out


def target_kl(student_logits, teacher_logits, labels, *, temperature):
    """`T^2 * KL` of the two-way distributions "the true class" and "any other".

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        labels: as in `cross_entropy`; the likeliest class of a distribution is the true one.
        temperature: positive scalar.

    Returns:
        Shape `(batch,)`. Zero where both give the true class the same probability; NaN for a number
        that names no class.

    Source: Zhao et al., *Decoupled Knowledge Distillation* (2022), its target-class part.

    Example:
        >>> import numpy as np
        >>> student, teacher = np.zeros((1, 3)), np.log([[2.0, 1.0, 1.0]])
        >>> float(target_kl(student, teacher, np.array([0]), temperature=1.0)[0])
        0.0588...
    """
    log_p, log_q, true = _softened(student_logits, teacher_logits, labels, temperature)
    parts = []
    for picked in (true, ops.logical_not(true)):
        p, q = (ops.logsumexp(ops.where(picked, x, _OUT), axis=-1) for x in (log_p, log_q))
        parts.append(ops.exp(p) * (p - q))
    return temperature**2 * (parts[0] + parts[1])


def other_kl(student_logits, teacher_logits, labels, *, temperature):
    """`T^2 * KL` of the distributions over the classes other than the true one.

    Args:
        student_logits, teacher_logits, labels, temperature: as in `target_kl`.

    Returns:
        Shape `(batch,)`. Zero where the distributions agree, and always for two classes; NaN for a
        number that names no class.

    Source: Zhao et al., *Decoupled Knowledge Distillation* (2022), its non-target part.

    Example:
        >>> import numpy as np
        >>> student, teacher = np.zeros((1, 3)), np.log([[1.0, 3.0, 1.0]])
        >>> float(other_kl(student, teacher, np.array([0]), temperature=1.0)[0])
        0.1308...
    """
    log_p, log_q, true = _softened(student_logits, teacher_logits, labels, temperature)
    log_p, log_q = (ops.log_softmax(ops.where(true, _OUT, x)) for x in (log_p, log_q))
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def _softened(student_logits, teacher_logits, labels, temperature):
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    log_p = ops.log_softmax(teacher_logits / temperature)
    log_q = ops.log_softmax(student_logits / temperature)
    shares = distributions(labels, student_logits)
    true = ops.argmax(shares, axis=-1)[:, None] == ops.arange(student_logits.shape[-1])
    return log_p, ops.where(ops.isnan(shares), shares, log_q), true
