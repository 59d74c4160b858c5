"""Models as files: without an optimizer, whole or not at all."""

from pathlib import Path

import keras

from kd_keras.files import whole_file


def plain_copy(model: keras.Model) -> keras.Model:
    """A copy without the optimizer, which would make the file three times as large."""
    copy = type(model).from_config(model.get_config())  # `clone_model` would compile it too
    copy.set_weights(model.get_weights())
    return copy


def save(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file of the model alone."""
    with whole_file(path) as temporary:
        plain_copy(model).save(temporary)
