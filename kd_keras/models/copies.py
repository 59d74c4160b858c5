"""New models of an old one's architecture."""

from typing import Any

import keras

from kd_keras.models.heads import head
from kd_keras.models.taps import output_shape


def untrained(model: keras.Model, logits: int | None = None) -> keras.Model:
    """A new, untrained model of the architecture of another.

    Args:
        model: functional; it is left as it is.
        logits: how many the new one has; None takes as many.

    Raises:
        ValueError: for another number of logits, where the model's last layer with weights is not
            a dense one of its own.

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2)
        >>> untrained(teacher, logits=10).output_shape
        (None, 10)
    """
    if logits is None or logits == output_shape(model)[-1]:
        return keras.models.clone_model(model)
    last = head(model)
    if not isinstance(last, keras.layers.Dense) or last not in model.layers:
        raise ValueError(
            f"A copy of {model.name!r} with {logits} logits takes a dense layer of the model's own "
            f"that makes them. Received: {last.name!r}, a {type(last).__name__}"
        )

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config: dict[str, Any] = layer.get_config()
        config |= {"units": logits} if layer is last else {}
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copied)
