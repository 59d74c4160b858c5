"""Load tasks: by name, or from the user's own data."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from kd_keras.data import builtin, folder, mhist
from kd_keras.data.arrays import from_arrays
from kd_keras.data.opening import open_data
from kd_keras.data.table import from_table
from kd_keras.data.task import Repeat, Split, Task
from kd_keras.utils.checks import lookup, unknown

log = logging.getLogger(__name__)

TASKS: dict[str, Callable[..., Task]] = {
    "digits": builtin.digits,
    "mnist": builtin.mnist,
    "digits_halves": builtin.digits_halves,
    "mnist_halves": builtin.mnist_halves,
    "mhist": mhist.load,
    "folder": folder.load,
}


def load(name: str | None = None, *, data: Any = None, **options) -> Task:
    """Load a task. What is odd about it, such as pictures that occur twice, is logged as warnings.

    Args:
        name: one of `TASKS`.
        data: the user's own data, in place of a name: the path of a folder of images, of an archive
            of one, or of a table; `"tfds:NAME"`, `"hf:PATH"`; a pandas frame, a builder of
            TensorFlow Datasets, or a data set of Hugging Face. See `opening.open_data`.
        options: options of the task's loader, such as `data_dir`, `image_size` and `seed`.

    Raises:
        FileNotFoundError: for data that are not there.
        ValueError: for an unknown task or option, or bad data.

    Example:
        >>> import kd_keras as kd
        >>> task = kd.data.load("digits", seed=0)
        >>> len(task.train), len(task.validation), len(task.test), task.classes
        (1149, 288, 360, 10)
    """
    task = read(name, data=data, **options)
    for sentence in task.odd:
        log.warning("%s: %s", task.name, sentence)
    return task


def read(name: str | None = None, *, data: Any = None, **options) -> Task:
    """Return a task as `load` does; what is odd about it is under `odd` alone, and not logged.

    Raises:
        FileNotFoundError, ValueError: as `load`.

    Example:
        >>> read("digits", seed=0).odd
        ()
    """
    if (name is None) == (data is None):
        raise ValueError(
            "Give either the name of a task or `data`. Received: "
            f"name={name!r}, data={'None' if data is None else type(data).__name__}"
        )
    return open_data(data, **options) if name is None else _by_name(name, options)


def _by_name(name: str, options: dict[str, Any]) -> Task:
    loader = lookup("task", TASKS, name)
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of task {name!r}:", option, known))
    return loader(**options)


def options_of(name: str) -> dict[str, Any]:
    """Return the options of a task's loader with their defaults."""
    parameters = inspect.signature(lookup("task", TASKS, name)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


__all__ = [
    "Repeat",
    "Split",
    "TASKS",
    "Task",
    "from_arrays",
    "from_table",
    "load",
    "open_data",
    "options_of",
    "read",
]
