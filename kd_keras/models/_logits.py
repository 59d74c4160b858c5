"""The last layer of every model here."""

import keras

from kd_keras.models import _arguments as arguments


def logits(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return a dense layer's logits, shape `(batch, classes)`.

    They are float32 under every policy: softmax and losses lose too much in half precision.

    Raises:
        ValueError: for fewer than two classes.
    """
    return keras.layers.Dense(arguments.class_count(classes), name="logits", dtype="float32")(x)
