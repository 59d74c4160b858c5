"""Ensembles: several models as one, by the mean of their probabilities."""

import math
from collections.abc import Callable, Sequence

import keras
from keras import ops

from kd_keras.models.graphs import input_spec, of_logits, output_shape
from kd_keras.models.heads import refuse_probabilities
from kd_keras.utils.checks import lookup


def _geometric(logits: Sequence):
    return sum(ops.log_softmax(z) for z in logits) / len(logits)


def _arithmetic(logits: Sequence):
    stacked = ops.stack([ops.log_softmax(z) for z in logits])
    return ops.logsumexp(stacked, axis=0) - math.log(len(logits))


# from the logits of all members, each of shape `(batch, classes)`, to the logits of the mean
MEANS: dict[str, Callable] = {"geometric": _geometric, "arithmetic": _arithmetic}


def ensemble(members: Sequence[keras.Model], mean: str = "geometric") -> keras.Model:
    """Build one Keras model of several: its logits are those of the mean of their probabilities.

    The ensemble shares its members' weights. It is made of Keras' own layers and operations, so it
    can be saved, and loaded without this library. The layer paths of member k begin with
    `member_k/`.

    Args:
        members: models that return logits, for the same images and classes.
        mean: `"geometric"`, the mean of the logits up to a constant, which is the mean at every
            temperature; or `"arithmetic"`, the mean of the probabilities at temperature 1.

    Raises:
        ValueError: if there is no member, if their shapes differ, or if one ends in softmax or
            sigmoid.

    Source: Hinton, Vinyals and Dean (2015), section 1, allow either mean.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> models = [kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        ...           for _ in range(2)]
        >>> both = kd.models.ensemble(models, "arithmetic")
        >>> p = np.exp(both(np.zeros((1, 8, 8, 1))))
        >>> round(float(p.sum()), 4)
        1.0
    """
    combine = lookup("mean", MEANS, mean)
    if not members:
        raise ValueError("`members` must hold at least one model. Received: none")
    for number, model in enumerate(members):
        refuse_probabilities(f"members[{number}]", model)
    shapes = [(tuple(input_spec(m).shape[1:]), output_shape(m)[1:]) for m in members]
    if len(set(shapes)) > 1:
        raise ValueError(
            "All members must take images of the same shape and have the same classes. Received: "
            + ", ".join(f"{images} to {classes}" for images, classes in shapes)
        )
    images = keras.Input(shapes[0][0], name="image")
    logits = []
    for number, model in enumerate(members):  # renamed, since two may have the same name
        inside = keras.Sequential(
            [keras.Input(shapes[0][0]), of_logits(model)], name=f"member_{number}"
        )
        logits.append(inside(images))
    return keras.Model(images, combine(logits), name="ensemble")
