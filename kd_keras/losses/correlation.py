"""Pearson's correlation of the predictions of student and teacher."""

from keras import ops

from kd_keras.losses.numeric import alike, presence, safe_sqrt, varies

_EPSILON = 1e-8  # added to the product of the norms, as in the authors' code


def inter_class_distance(student_logits, teacher_logits, *, temperature):
    """One minus the correlation of an example's probabilities, over the classes.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        temperature: positive scalar, for both.

    Returns:
        Shape `(batch,)`, from 0 to 2: 0 where one side's probabilities are a linear function of the
        other's, 1 where one side's probabilities are all equal.

    Source: Huang et al., *Knowledge Distillation from A Stronger Teacher* (2022), equation 8.

    Example:
        >>> import numpy as np
        >>> z = np.array([[2.0, 1.0, 0.0]])
        >>> abs(float(inter_class_distance(z, z, temperature=1.0)[0])) < 1e-6
        True
    """
    student, teacher = _probabilities(student_logits, teacher_logits, temperature)
    student, teacher = (
        _centred(p, ops.mean(p, axis=1, keepdims=True), 1) for p in (student, teacher)
    )
    return 1 - ops.sum(student * teacher, axis=1) / (
        _norm(student, 1) * _norm(teacher, 1) + _EPSILON
    )


def intra_class_distance(student_logits, teacher_logits, *, temperature, present=None):
    """One minus the correlation of a class's probabilities, over the examples of the batch.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        temperature: positive scalar, for both.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

    Returns:
        Shape `(batch,)`: each example's share of the mean over the classes.

    Source: Huang et al., *Knowledge Distillation from A Stronger Teacher* (2022), equation 9.

    Example:
        >>> import numpy as np
        >>> z = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 1.0, 2.0]])
        >>> abs(float(np.mean(intra_class_distance(z, z, temperature=1.0)))) < 1e-6
        True
    """
    student, teacher = _probabilities(student_logits, teacher_logits, temperature)
    there, count = presence(present, student)
    there = there[:, None]

    def columns(p):
        p = p * there
        return _centred(p, ops.sum(p, axis=0, keepdims=True) / count, 0) * there

    student, teacher = columns(student), columns(teacher)
    norms = _norm(student, 0) * _norm(teacher, 0) + _EPSILON
    return 1 - count * ops.mean(student * teacher / norms, axis=1)


def _probabilities(student_logits, teacher_logits, temperature):
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    return ops.softmax(student_logits / temperature), ops.softmax(teacher_logits / temperature)


def _centred(p, mean, axis):
    """Subtract the mean from `p`; zero, with no gradient, where `p` is constant along `axis`."""
    return ops.where(varies(p, p - mean, axis), p - mean, 0)


def _norm(x, axis):
    return safe_sqrt(ops.sum(ops.square(x), axis=axis))
