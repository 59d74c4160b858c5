"""Formulas on the features of student and teacher; most need features of the same shape."""

from keras import ops

from kd_keras.losses.numeric import alike, at_least_float32, presence, rows, safe_sqrt, unit


def hint_distance(student, teacher):
    """Half the squared distance of the features: `1/2 |student - teacher|^2`, over all entries.

    Args:
        student, teacher: of the same shape `(batch, ...)`; the student's after its regressor.

    Returns:
        Shape `(batch,)`. Zero where they agree.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets* (2015), equation 3.

    Example:
        >>> import numpy as np
        >>> hint_distance(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])).numpy().tolist()
        [2.5]
    """
    student, teacher = alike(student, teacher)
    return 0.5 * ops.sum(ops.square(rows(student) - rows(teacher)), axis=-1)


def mean_squared_difference(student, teacher):
    """The mean squared difference of the features, over all entries of an example.

    Args:
        student, teacher: of the same shape `(batch, ...)`; the student's after its regressor.

    Returns:
        Shape `(batch,)`. Zero where they agree.

    Source: the form of the hint in Tian et al., *Contrastive Representation Distillation* (2020).

    Example:
        >>> import numpy as np
        >>> mean_squared_difference(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])).numpy().tolist()
        [2.5]
    """
    student, teacher = alike(student, teacher)
    return ops.mean(ops.square(rows(student) - rows(teacher)), axis=-1)


def cosine_distance(student, teacher):
    """One minus the cosine of the angle between the features, averaged over the places of a map.

    Args:
        student, teacher: of the same shape `(batch, ..., channels)`; the student's after its
            projection.

    Returns:
        Shape `(batch,)`, between 0 and 2. Zero where they point the same way, whatever their
        lengths; one, with a gradient of zero, where either is all zeros.

    Source: the cosine loss of Sanh et al., *DistilBERT* (2019), section 3, and of Ranzinger et al.,
    *AM-RADIO* (2024).

    Example:
        >>> import numpy as np
        >>> distance = cosine_distance(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]]))
        >>> round(float(distance[0]), 6)
        0.2
    """
    student, teacher = alike(student, teacher)
    cosines = ops.sum(unit(student) * unit(teacher), axis=-1, keepdims=True)
    return 1 - ops.mean(rows(cosines), axis=-1)


def attention_map(features):
    """The attention map of a network: the mean over the channels of its squared features, as a unit
    vector over all places.

    Args:
        features: maps, shape `(batch, height, width, channels)`.

    Returns:
        Shape `(batch, height * width)`; zeros for an example without activity.

    Source: Zagoruyko and Komodakis, *Paying More Attention to Attention* (2017).

    Example:
        >>> import numpy as np
        >>> attention_map(np.array([[[[1.0, 1.0], [0.0, 0.0]]]])).numpy().tolist()
        [[1.0, 0.0]]
    """
    return unit(rows(ops.mean(ops.square(at_least_float32(features)), axis=-1)))


def attention_difference(student, teacher):
    """The mean squared difference of the attention maps, over the places.

    Args:
        student, teacher: maps, shape `(batch, height, width, channels)`; only their channels may
            differ.

    Returns:
        Shape `(batch,)`. Zero where both look at the same places.

    Source: Zagoruyko and Komodakis, *Paying More Attention to Attention* (2017), with the mean of
    their code; the paper writes a sum.

    Example:
        >>> import numpy as np
        >>> left, right = np.array([[[[1.0], [0.0]]]]), np.array([[[[0.0], [5.0]]]])
        >>> attention_difference(left, right).numpy().tolist()
        [1.0]
    """
    student, teacher = alike(student, teacher)
    return ops.mean(ops.square(attention_map(student) - attention_map(teacher)), axis=-1)


def active_difference(student, teacher):
    """The squared difference of the features, summed over the entries where either is above zero.

    Args:
        student, teacher: of the same shape `(batch, ...)`.

    Returns:
        Shape `(batch,)`. Zero where they agree; entries that are inactive in both add nothing.

    Source: third-party code for Zhang et al., *Be Your Own Teacher* (2019).

    Example:
        >>> import numpy as np
        >>> student, teacher = np.array([[3.0, -1.0, -1.0]]), np.array([[1.0, 2.0, -9.0]])
        >>> active_difference(student, teacher).numpy().tolist()
        [13.0]
    """
    student, teacher = alike(student, teacher)
    student, teacher = rows(student), rows(teacher)
    active = ops.logical_or(student > 0, teacher > 0)
    return ops.sum(ops.where(active, ops.square(student - teacher), 0), axis=-1)


def batch_distance(student, teacher, *, present=None):
    """The Euclidean distance of a batch's features, over all entries of all examples at once.

    It is not squared, and grows with the root of the batch size. An example's share is proportional
    to its part of the squared distance.

    Args:
        student, teacher: of the same shape `(batch, ...)`.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

    Returns:
        Shape `(batch,)`: shares, whose mean over the examples present is the distance. Zero, with a
        gradient of zero, where they agree.

    Source: the code of Zhang, Bao and Ma, *Self-Distillation: Towards Efficient and Compact Neural
    Networks* (2021), the later form of *Be Your Own Teacher*.

    Example:
        >>> import numpy as np
        >>> student, teacher = np.array([[3.0, 0.0], [0.0, 4.0]]), np.zeros((2, 2))
        >>> [round(float(x), 4) for x in batch_distance(student, teacher)]  # of 5
        [3.6, 6.4]
    """
    student, teacher = alike(student, teacher)
    there, count = presence(present, student)
    squares = there * ops.sum(ops.square(rows(student) - rows(teacher)), axis=-1)
    distance = safe_sqrt(ops.sum(squares))
    apart = distance > 0
    return ops.where(apart, count * squares / ops.where(apart, distance, 1), 0)


def gaussian_nll(mean, target, *, variance):
    """Negative log-likelihood of the target under a normal distribution, averaged over the entries
    of an example: `1/2 ((m - t)^2 / v + ln v)`, without the constant `1/2 ln 2 pi`.

    Args:
        mean, target: of the same shape `(batch, ..., channels)`; the student predicts the mean.
        variance: positive, a number or shape `(channels,)`.

    Returns:
        Shape `(batch,)`.

    Source: Ahn et al., *Variational Information Distillation for Knowledge Transfer* (2019).

    Example:
        >>> import numpy as np
        >>> float(gaussian_nll(np.array([[1.0]]), np.array([[3.0]]), variance=5.0)[0])
        1.2047...
    """
    mean, target = alike(mean, target)
    variance = ops.cast(variance, mean.dtype)
    return 0.5 * ops.mean(rows(ops.square(mean - target) / variance + ops.log(variance)), axis=-1)
