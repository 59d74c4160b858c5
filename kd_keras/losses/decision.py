"""The formula that takes the teacher's decision as a label."""

from keras import ops

from kd_keras.losses.numeric import alike


def decision_cross_entropy(student_logits, teacher_logits):
    """Cross-entropy of the student against the class that the teacher predicts.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.

    Returns:
        Shape `(batch,)`. If several classes share the teacher's largest logit, the first counts.
        NaN where the teacher's logits are NaN, since they decide nothing.

    Source: Touvron et al., *Training data-efficient image transformers & distillation through
    attention* (2021), section 4.

    Example:
        >>> import numpy as np
        >>> loss = decision_cross_entropy(np.zeros((1, 2)), np.array([[3.0, 3.0]]))
        >>> round(float(loss[0]), 4)  # ln 2
        0.6931
    """
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    numbers = ops.arange(teacher_logits.shape[-1], dtype="int32")
    best = teacher_logits >= ops.max(teacher_logits, axis=-1, keepdims=True)
    # not `argmax`, which may take any of several equal logits
    first = ops.min(ops.where(best, numbers, teacher_logits.shape[-1] - 1), axis=-1)
    decided = ops.one_hot(first, teacher_logits.shape[-1], dtype=student_logits.dtype)
    known = ops.where(ops.any(ops.isnan(teacher_logits), axis=-1), float("nan"), 1.0)
    log_q = ops.log_softmax(student_logits)
    return -ops.sum(decided * log_q, axis=-1) * ops.cast(known, log_q.dtype)
