"""Formulas for distillation with causal intervention: features, classes and context."""

from keras import ops

from kd_keras.losses.numeric import TINY, alike, at_least_float32, presence, rows, same_class, unit
from kd_keras.losses.response import distributions


def relative_distance(student, teacher):
    """Squared distance of the features, relative to the teacher's squared length.

    Args:
        student, teacher: of the same shape `(batch, ...)`; the student's after its regressor.

    Returns:
        Shape `(batch,)`. Zero where they agree, and where the teacher's features are all zero:
        such features have no direction to follow.

    Source: Deng and Zhang, *Comprehensive Knowledge Distillation with Causal Intervention* (2021).

    Example:
        >>> import numpy as np
        >>> relative_distance(np.array([[1.0, 2.0]]), np.array([[0.0, 2.0]])).numpy().tolist()
        [0.25]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    length = ops.sum(ops.square(teacher), axis=1)
    there = length > TINY
    distance = ops.sum(ops.square(student - teacher), axis=1)
    return ops.where(there, distance / ops.where(there, length, 1), 0)


def class_similarity_difference(student, teacher, labels, *, present=None):
    """Squared difference of the cosines within a class: the mean over the pairs of a class, then
    over the classes with two or more examples in the batch.

    Args:
        student, teacher: shape `(batch, ...)`; they may differ in size.
        labels: class numbers, shape `(batch,)`.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

    Returns:
        Shape `(batch,)`: each example's share. Zero if no class has two examples.

    Source: Deng and Zhang, *Comprehensive Knowledge Distillation with Causal Intervention* (2021).

    Example:
        >>> import numpy as np
        >>> labels = np.array([0, 0, 1])
        >>> loss = class_similarity_difference(np.eye(3), np.ones((3, 2)), labels)
        >>> np.round(loss, 6).tolist()
        [0.75, 0.75, 0.0]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    there, count = presence(present, student)
    same = same_class(ops.convert_to_tensor(labels), there)
    size = ops.sum(same, axis=1)  # of the example's class
    several = ops.cast(size > 1, same.dtype)
    size = ops.maximum(size, 1)
    classes = ops.maximum(ops.sum(several / size), 1)

    def cosines(features):
        features = unit(features)
        return ops.matmul(features, ops.transpose(features))

    apart = ops.sum(same * ops.square(cosines(student) - cosines(teacher)), axis=1)
    return several * apart / ops.square(size) * count / classes


def true_class_probability(logits, labels, *, temperature):
    """Return the softened probability of the true class, shape `(batch,)`.

    It is NaN for a number that names no class.

    Args:
        logits: shape `(batch, classes)`, unnormalised.
        labels: class numbers, shape `(batch,)`.
        temperature: positive scalar.

    Example:
        >>> import numpy as np
        >>> p = true_class_probability(np.log([[3.0, 1.0]]), np.array([0]), temperature=1.0)
        >>> round(float(p[0]), 6)
        0.75
    """
    logits = at_least_float32(logits)
    return ops.sum(ops.softmax(logits / temperature) * distributions(labels, logits), axis=1)


def weighted_class_sums(features, labels, weights, *, classes):
    """Sum the weighted features and the weights of each class, for the weighted class means.

    Args:
        features: shape `(batch, size)`.
        labels: class numbers, shape `(batch,)`.
        weights: shape `(batch,)`.
        classes: the number of classes.

    Returns:
        Per class the sum of the weighted features, shape `(classes, size)`, and the sum of the
        weights, shape `(classes, 1)`.

    Example:
        >>> import numpy as np
        >>> sums, totals = weighted_class_sums(
        ...     np.array([[2.0], [4.0]]), np.array([1, 1]), np.array([0.5, 0.5]), classes=2)
        >>> sums.numpy().tolist(), totals.numpy().tolist()
        ([[0.0], [3.0]], [[0.0], [1.0]])
    """
    features = at_least_float32(features)
    weights = ops.cast(weights, features.dtype)
    shares = ops.one_hot(labels, classes, dtype=features.dtype) * weights[:, None]
    shares = ops.transpose(shares)
    return ops.matmul(shares, features), ops.sum(shares, axis=1, keepdims=True)
