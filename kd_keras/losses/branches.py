"""The loss of a student-friendly teacher, whose features are the input of branches."""

from collections.abc import Sequence

from kd_keras.losses.response import cross_entropy, softened_kl


def branch_loss(
    teacher_logits,
    branch_logits: Sequence,
    labels,
    *,
    temperature=1.0,
    divergence_weight=3.0,
    label_weight=1.0,
    reverse=False,
    summed=False,
):
    """Return the branches' part of a teacher's loss: their divergence from it and cross-entropy.

    The divergence is softened and multiplied by the temperature squared. Its gradient reaches the
    teacher too, which is its purpose.

    Args:
        teacher_logits: shape `(batch, classes)`.
        branch_logits: the logits of each branch; one branch or more.
        labels: as in `cross_entropy`.
        temperature: positive scalar.
        divergence_weight, label_weight: the weights of the two terms.
        reverse: take `KL(branch || teacher)`.
        summed: add up the branches; otherwise take their mean.

    Returns:
        Shape `(batch,)`. With weights `(1, 0)`, zero where branches and teacher agree.

    Source: the idea is that of Park et al., *Learning Student-Friendly Teacher Networks* (2021).
    Direction, factor and mean are choices of this library.

    Example:
        >>> import numpy as np
        >>> even = np.zeros((1, 2))
        >>> round(float(branch_loss(even, [even, even], np.array([0]))[0]), 4)  # ln 2
        0.6931
    """
    total = 0.0
    for logits in branch_logits:
        both = (teacher_logits, logits) if reverse else (logits, teacher_logits)
        apart = softened_kl(*both, temperature=temperature)
        total = total + divergence_weight * apart + label_weight * cross_entropy(labels, logits)
    return total if summed else total / len(branch_logits)
