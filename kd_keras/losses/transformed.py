"""Formulas on a teacher whose probabilities are raised to a power; the student's are not."""

from keras import ops

from kd_keras.losses.numeric import alike, at_least_float32


def transformed_kl(student_logits, teacher_logits, *, exponent):
    """KL(p^g / sum p^g || student): the teacher is softened, the student is not.

    Normalised, `p^g` is the softmax of `g` times the logits: a temperature of `1 / g`. The loss's
    gradient with respect to the student's logits is `softmax(student) - softmax(g * teacher)`.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        exponent: scalar above 0; below 1 it softens.

    Returns:
        Shape `(batch,)`. Zero where the student predicts the softened probabilities.

    Source: Zheng and Yang, *Knowledge Distillation Based on Transformed Teacher Matching* (2024).

    Example:
        >>> import numpy as np
        >>> loss = transformed_kl(np.zeros((1, 2)), np.log([[9.0, 1.0]]), exponent=0.5)
        >>> round(float(loss[0]), 4)  # 3/4 ln 3/2 + 1/4 ln 1/2
        0.1308
    """
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    log_p = ops.log_softmax(exponent * teacher_logits)
    log_q = ops.log_softmax(student_logits)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def power_sum(logits, *, exponent):
    """The smoothness of a prediction: `sum_k p_k^g`, from 1 for a sure one to `classes^(1 - g)`.

    It is computed from the logarithms, since float32 may round a probability to zero when its power
    is not.

    Args:
        logits: shape `(batch, classes)`, unnormalised.
        exponent: scalar in (0, 1].

    Returns:
        Shape `(batch,)`.

    Source: Zheng and Yang, *Knowledge Distillation Based on Transformed Teacher Matching* (2024).

    Example:
        >>> import numpy as np
        >>> power_sum(np.zeros((1, 4)), exponent=0.5).numpy().round(6).tolist()
        [2.0]
    """
    return ops.exp(ops.logsumexp(exponent * ops.log_softmax(at_least_float32(logits)), axis=-1))
