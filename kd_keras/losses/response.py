"""Formulas on logits."""

import keras
from keras import ops

from kd_keras.losses.numeric import alike, at_least_float32, safe_sqrt, varies


def softened_kl(student_logits, teacher_logits, *, temperature):
    """KL(teacher || student) of the softened distributions, times the temperature squared.

    The factor preserves the size of the gradient when the temperature changes: with respect to the
    student's logits, it is `temperature * (softmax(student / T) - softmax(teacher / T))`.

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
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    log_p = ops.log_softmax(teacher_logits / temperature)
    log_q = ops.log_softmax(student_logits / temperature)
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def soft_cross_entropy(
    student_logits, teacher_logits, *, student_temperature, teacher_temperature, transform=None
):
    """Cross-entropy of the student against soft targets, each side at its own temperature.

    There is no factor for the temperatures. If both temperatures are equal, it is
    `softened_kl / T^2` plus the entropy of the teacher's distribution, which has no gradient.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        student_temperature, teacher_temperature: positive scalars.
        transform: a function of the teacher's softened probabilities, shape `(batch, classes)`,
            that returns the targets; None leaves them unchanged.

    Returns:
        Shape `(batch,)`. Its minimum is the entropy of the targets, where the student predicts
        exactly them.

    Source: Hinton, Vinyals and Dean (2015), section 2, with two temperatures instead of one.

    Example:
        >>> import numpy as np
        >>> even = np.zeros((1, 2))
        >>> loss = soft_cross_entropy(even, np.log([[3.0, 1.0]]), student_temperature=1.0,
        ...                           teacher_temperature=2.0)
        >>> round(float(loss[0]), 4)  # ln 2
        0.6931
    """
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    targets = ops.softmax(teacher_logits / teacher_temperature)
    if transform is not None:
        targets = ops.cast(transform(targets), student_logits.dtype)
    log_q = ops.log_softmax(student_logits / student_temperature)
    return -ops.sum(targets * log_q, axis=-1)


def logit_regression(student_logits, teacher_logits, *, centred=False):
    """Half the squared distance of the logits: `1/2 sum_k (s_k - t_k)^2`.

    Its gradient is `student - teacher`. If both sides' logits are centred, it is also the limit of
    `classes * softened_kl` at high temperatures.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.
        centred: first subtract each example's mean from its logits. Softmax ignores that mean, and
            then the student may choose it freely.

    Returns:
        Shape `(batch,)`. Zero where the logits agree.

    Source: Ba and Caruana, *Do Deep Nets Really Need to be Deep?* (2014).

    Example:
        >>> import numpy as np
        >>> logit_regression(np.array([[2.0, 1.0]]), np.array([[4.0, 0.0]])).numpy().tolist()
        [2.5]
    """
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    apart = student_logits - teacher_logits
    if centred:
        apart = apart - ops.mean(apart, axis=-1, keepdims=True)
    return 0.5 * ops.sum(ops.square(apart), axis=-1)


def probability_regression(student_logits, teacher_logits):
    """The mean squared difference of the probabilities, over the classes.

    Args:
        student_logits, teacher_logits: shape `(batch, classes)`, unnormalised.

    Returns:
        Shape `(batch,)`. Zero where the distributions agree.

    Source: Bucila, Caruana and Niculescu-Mizil, *Model Compression* (2006), for two classes.

    Example:
        >>> import numpy as np
        >>> probability_regression(np.zeros((1, 2)), np.log([[3.0, 1.0]])).numpy().tolist()
        [0.0625...]
    """
    student_logits, teacher_logits = alike(student_logits, teacher_logits)
    apart = ops.softmax(student_logits) - ops.softmax(teacher_logits)
    return ops.mean(ops.square(apart), axis=-1)


def standardised(logits):
    """Scale the logits of each example to mean 0 and standard deviation 1.

    The variance divides by `classes - 1`. If all logits are equal, the result is zero, with a
    gradient of zero.

    Args:
        logits: shape `(batch, classes)`.

    Returns:
        Shape `(batch, classes)`.

    Source: Sun et al., *Logit Standardization in Knowledge Distillation* (2024), with their 1e-7
    added to the deviation.

    Example:
        >>> import numpy as np
        >>> np.round(standardised(np.array([[4.0, 2.0, 0.0]])), 4).tolist()
        [[1.0, 0.0, -1.0]]
    """
    logits = at_least_float32(logits)
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / (logits.shape[-1] - 1)
    return ops.where(varies(logits, centred, -1), centred / (1e-7 + safe_sqrt(variance)), 0)


def mixed(hard, soft, *, alpha):
    """Combine the labels' term and the teacher's: `alpha * hard + (1 - alpha) * soft`.

    Args:
        hard, soft: shape `(batch,)`.
        alpha: the weight of the labels, in [0, 1].

    Example:
        >>> import numpy as np
        >>> mixed(np.array([1.0]), np.array([3.0]), alpha=0.25).tolist()
        [2.5]
    """
    return alpha * hard + (1.0 - alpha) * soft


def cross_entropy(labels, logits):
    """Cross-entropy of logits against class numbers or soft labels.

    Args:
        labels: class numbers, integers of shape `(batch,)` or `(batch, 1)`; or distributions,
            shape `(batch, classes)`.
        logits: shape `(batch, classes)`, unnormalised.

    Returns:
        Shape `(batch,)`. NaN for a number that names no class.
    """
    logits = at_least_float32(logits)
    return -ops.sum(distributions(labels, logits) * ops.log_softmax(logits), axis=-1)


def distributions(labels, logits):
    """Return labels as one distribution per example, shape `(batch, classes)`, in the dtype of
    `logits`.

    A class number becomes a one-hot row. A number that names no class becomes NaN: a row of zeros
    would be the best label of all, since its cross-entropy is zero.

    Args:
        labels: as in `cross_entropy`.
        logits: the logits for these labels, shape `(batch, classes)`.

    Example:
        >>> import numpy as np
        >>> distributions(np.array([1, 7]), np.zeros((2, 3), "float32")).numpy().tolist()
        [[0.0, 1.0, 0.0], [nan, nan, nan]]
    """
    if not are_class_numbers(labels, logits):
        return ops.cast(labels, logits.dtype)
    numbers, classes = class_numbers(labels, logits), logits.shape[-1]
    marked = ops.one_hot(numbers, classes, dtype=logits.dtype)
    return ops.where(name_classes(labels, numbers, classes)[:, None], marked, float("nan"))


def class_numbers(labels, logits):
    """Return the class of each example, int32, shape `(batch,)`: a distribution's likeliest class.

    Args:
        labels: as in `cross_entropy`.
        logits: the logits for these labels, shape `(batch, classes)`.
    """
    if are_class_numbers(labels, logits):
        return ops.reshape(ops.cast(labels, "int32"), (-1,))
    return ops.cast(ops.argmax(labels, axis=-1), "int32")


def name_classes(labels, numbers, classes: int):
    """Return True for each label that names a class, bool, shape `(batch,)`.

    Args:
        labels: class numbers of any dtype, one per example; 2.7 and NaN name no class.
        numbers: the same as int32, shape `(batch,)`.
        classes: the number of classes.
    """
    within = ops.logical_and(numbers >= 0, numbers < classes)
    labels = ops.reshape(ops.convert_to_tensor(labels), (-1,))
    if "float" not in keras.backend.standardize_dtype(labels.dtype):
        return within
    return ops.logical_and(within, ops.equal(labels, ops.cast(numbers, labels.dtype)))


def are_class_numbers(labels, logits) -> bool:
    """Return True if `labels` hold class numbers, not one distribution per example."""
    shape = tuple(labels.shape)
    return len(shape) < len(logits.shape) or (shape[-1] == 1 and logits.shape[-1] != 1)
