"""Formulas for subclass distillation, in which the teacher itself divides the classes."""

from keras import ops

from kd_keras.losses.numeric import at_least_float32, presence
from kd_keras.losses.response import cross_entropy


def class_logits(subclass_logits, *, subclasses):
    """Return the logits of the classes: the `logsumexp` over the subclasses of each.

    Args:
        subclass_logits: shape `(batch, classes * subclasses)`; the subclasses of a class are
            adjacent.
        subclasses: how many each class has.

    Returns:
        Shape `(batch, classes)`. Their softmax is the sum of the subclasses' probabilities.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> import numpy as np
        >>> logits = class_logits(np.log([[1.0, 1.0, 2.0, 4.0]]), subclasses=2)
        >>> np.exp(logits).round(6).tolist()
        [[2.0, 6.0]]
    """
    logits = at_least_float32(subclass_logits)
    classes = logits.shape[-1] // subclasses
    return ops.logsumexp(ops.reshape(logits, (-1, classes, subclasses)), axis=-1)


def subclass_spread(subclass_logits, *, temperature=1.0, present=None):
    """Measure how similar the examples' standardised logits are: an auxiliary loss that makes a
    teacher use all of its subclasses.

    It is 0 if all examples are equal, and lower the more they differ.

    Args:
        subclass_logits: shape `(batch, classes * subclasses)`.
        temperature: positive scalar.
        present: shape `(batch,)`, zero for examples to leave out; None leaves out none.

    Returns:
        Shape `(batch,)`: each example's term, over all examples of the batch including itself.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020), in the form of their
    code.

    Example:
        >>> import numpy as np
        >>> apart = subclass_spread(np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))
        >>> np.round(apart, 6).tolist()
        [-0.379885, -0.379885]
    """
    logits = at_least_float32(subclass_logits)
    there, count = presence(present, logits)
    centred = logits - ops.mean(logits, axis=1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=1, keepdims=True)
    scaled = centred / ops.sqrt(variance + 1e-9)
    alike = ops.matmul(scaled, ops.transpose(scaled)) / (logits.shape[-1] * temperature)
    alike = ops.where(there[None, :] > 0, alike, -1e30)
    return ops.logsumexp(alike, axis=1) - 1 / temperature - ops.log(count)


def subclass_teacher_loss(
    labels, subclass_logits, *, subclasses, temperature=1.0, weight=1.0, present=None
):
    """The training loss of a teacher with subclasses: the cross-entropy of its classes, and the
    spread of its subclasses.

    Args:
        labels: labels of the classes, as in `cross_entropy`.
        subclass_logits: shape `(batch, classes * subclasses)`.
        subclasses: how many each class has.
        temperature, present: as in `subclass_spread`.
        weight: the weight of the spread.

    Returns:
        Shape `(batch,)`.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> import numpy as np
        >>> v = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
        >>> subclass_teacher_loss(np.array([0, 1]), v, subclasses=2).shape
        TensorShape([2])
    """
    hard = cross_entropy(labels, class_logits(subclass_logits, subclasses=subclasses))
    spread = subclass_spread(subclass_logits, temperature=temperature, present=present)
    return hard + weight * spread
