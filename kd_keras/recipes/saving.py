"""Models as files: without an optimizer, whole or not at all."""

import math
from pathlib import Path

import keras
import numpy as np

from kd_keras.data.task import Task
from kd_keras.files import check_room, whole_file
from kd_keras.models import heads, taps

OVERHEAD = 4096  # bytes that HDF5 takes for a variable beside its numbers, at the most


def plain_copy(model: keras.Model) -> keras.Model:
    """A copy without the optimizer, which would make the file three times as large."""
    copy = type(model).from_config(model.get_config())  # `clone_model` would compile it too
    copy.set_weights(model.get_weights())
    return copy


def save(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file of the model alone."""
    with whole_file(path) as temporary:
        plain_copy(model).save(temporary)


def save_weights(model: keras.Model, path: Path) -> None:
    """Write a weights file, of a compiled model with the state of its optimizer, whole or not.

    Raises:
        OSError: the disk has no room for it.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else ())]
    size = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize + OVERHEAD for v in variables)
    with whole_file(path) as temporary:
        check_room(temporary, size)  # a disk that fills up under HDF5 ends the whole process
        model.save_weights(temporary)


def read_model(path: str | Path) -> keras.Model:
    """A model from a `.keras` file, in Keras' safe mode.

    Raises:
        FileNotFoundError, ValueError: not there, not to be loaded, or ending in softmax.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {path}.")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or foreign file makes Keras raise nearly anything
        raise ValueError(f"{path} cannot be loaded as a Keras model: {error}") from error
    heads.refuse_probabilities(str(path), model)
    return model


def load_model(path: str | Path, task: Task) -> keras.Model:
    """A model from a `.keras` file, as `read_model`, checked against the task.

    Raises:
        FileNotFoundError, ValueError: as `read_model`; or the model is of another shape.
    """
    model = read_model(path)
    shapes = taps.input_spec(model).shape[1:], taps.output_shape(model)[1:]
    wanted = task.image_shape, (task.classes,)
    if tuple(map(tuple, shapes)) != wanted:
        raise ValueError(
            f"{path} maps images {tuple(shapes[0])} to {tuple(shapes[1])}, and the task "
            f"{task.name!r} has images {wanted[0]} and {task.classes} classes."
        )
    return model
