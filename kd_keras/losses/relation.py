"""Formulas on how the examples of a batch relate; student and teacher may differ in size.

Features of any shape `(batch, ...)` count as one vector per example. Every function returns each
example's share, shape `(batch,)`, whose mean is the term. `present`, shape `(batch,)`, is zero for
examples to leave out of the comparison; None leaves out none.
"""

from keras import ops

from kd_keras.losses.numeric import TINY, alike, presence, rows, safe_sqrt, unit

_EPSILON = 1e-7  # as in the authors' code of `probability_transfer`


def similarity_difference(student, teacher, *, present=None):
    """Squared difference of the similarities, `F F^T` with rows of length 1: the sum over all pairs
    divided by the number of pairs.

    Args:
        student, teacher: shape `(batch, ...)`.
        present: see the module docstring.

    Returns:
        Shape `(batch,)`. Zero where one side is the other rotated or scaled.

    Source: Tung and Mori, *Similarity-Preserving Knowledge Distillation* (2019), equation 4.

    Example:
        >>> import numpy as np
        >>> similarity_difference(np.eye(2), 3 * np.eye(2)).numpy().tolist()
        [0.0, 0.0]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    there, count = presence(present, student)

    def similarities(features):
        features = features * there[:, None]
        return unit(ops.matmul(features, ops.transpose(features)))

    apart = ops.square(similarities(student) - similarities(teacher))
    return ops.sum(apart, axis=1) / count


def neighbour_divergence(student, teacher, *, present=None):
    """KL divergence of the examples' nearness to each other: the mean over all pairs of
    `t ln(t / s)`.

    Nearness is `(1 + cosine) / 2`, normalised for each example to a distribution over the batch.

    Args:
        student, teacher: shape `(batch, ...)`.
        present: see the module docstring.

    Returns:
        Shape `(batch,)`. Zero where the cosines agree.

    Source: Passalis and Tefas, *Learning Deep Representations with Probabilistic Knowledge
    Transfer* (2018), with the mean of the authors' code.

    Example:
        >>> import numpy as np
        >>> neighbour_divergence(np.eye(2), 3 * np.eye(2)).numpy().round(6).tolist()
        [0.0, 0.0]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    there, count = presence(present, student)

    def nearness(features):
        squares = ops.sum(ops.square(features), axis=1, keepdims=True)
        scaled = features / (safe_sqrt(squares) + _EPSILON)
        scaled = ops.where(squares > TINY**2, scaled, 0)
        near = (ops.matmul(scaled, ops.transpose(scaled)) + 1) / 2 * there
        # the sum is zero if an example is opposed to all others and is itself left out
        return near / ops.maximum(ops.sum(near, axis=1, keepdims=True), TINY)

    p, q = nearness(teacher), nearness(student)
    return ops.sum(there * p * ops.log((p + _EPSILON) / (q + _EPSILON)), axis=1) / count


def distance_difference(student, teacher, *, present=None):
    """Huber loss of the pairwise distances, divided by their mean on each side.

    Args:
        student, teacher: shape `(batch, ...)`. Memory: `batch^2 * size` numbers.
        present: see the module docstring.

    Returns:
        Shape `(batch,)`. Zero where one side is the other rotated, shifted or scaled. If all
        examples are equal, their distances are zero and there is no gradient.

    Source: Park et al., *Relational Knowledge Distillation* (2019), section 3.2.1; the mean is over
    all pairs, an example with itself included, as in the authors' code.

    Example:
        >>> import numpy as np
        >>> distance_difference(np.eye(2), 3 * np.eye(2)).numpy().tolist()
        [0.0, 0.0]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    there, count = presence(present, student)
    pairs = there[:, None] * there[None, :]

    def relative(features):
        distances = safe_sqrt(ops.sum(ops.square(_differences(features)), axis=2)) * pairs
        mean = ops.sum(distances) / ops.maximum(count * (count - 1), 1)
        return ops.where(mean > 0, distances / ops.where(mean > 0, mean, 1), 0)

    return ops.sum(_huber(relative(student) - relative(teacher)), axis=1) / count


def angle_difference(student, teacher, *, present=None):
    """Huber loss of the cosines of the angles in all triangles of examples.

    Args:
        student, teacher: shape `(batch, ...)`. Memory: `batch^3 + batch^2 * size` numbers.
        present: see the module docstring.

    Returns:
        Shape `(batch,)`, the share of the angles at the example. Zero where one side is the other
        rotated, shifted or scaled.

    Source: Park et al., *Relational Knowledge Distillation* (2019), section 3.2.2; the mean is over
    all triples, those without an angle included, as in the authors' code.

    Example:
        >>> import numpy as np
        >>> angle_difference(np.eye(3), 3 * np.eye(3)).numpy().round(6).tolist()
        [0.0, 0.0, 0.0]
    """
    student, teacher = (rows(x) for x in alike(student, teacher))
    there, count = presence(present, student)
    pairs = there[:, None] * there[None, :]

    def cosines(features):
        sides = unit(_differences(features)) * pairs[:, :, None]
        return ops.einsum("ijd,ikd->ijk", sides, sides)

    return ops.sum(_huber(cosines(student) - cosines(teacher)), axis=(1, 2)) / count**2


def _differences(features):
    return features[None, :, :] - features[:, None, :]


def _huber(x):
    size = ops.absolute(x)
    return ops.where(size < 1, 0.5 * ops.square(x), size - 0.5)
